# The second program in the machine, on the files of the machine outside: what an init system would do, then the command.
. /run/command
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /lib/modules
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mkdir "/lib/modules/$(uname -r)"
mount --bind "$MODULES" "/lib/modules/$(uname -r)"
hostname tcpops
ip link set lo up
# A line ends where it ends, without a carriage return.
stty -onlcr < /dev/console
ulimit -n 65536
(start)
# The second serial line is how the machine outside hears of it.
echo $? > /dev/ttyS1
# Not through an init system: there is none.
echo o > /proc/sysrq-trigger
sleep 60

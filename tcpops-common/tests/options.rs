//! What becomes of a socket's options, on a socket in memory that takes what the kernel takes.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;

use proptest::prelude::*;
use proptest::sample::select;
use tcpops_common::apply::{OptionAccess, apply, apply_override, give_way, reapply, restore};
use tcpops_common::conn::Connection;
use tcpops_common::counters::Counter;
use tcpops_common::enforce::{Answer, Reconsidered};
use tcpops_common::option::Part;
use tcpops_common::policy::{Options, Outcome, Policy, Setting, SocketOptions, TcpOption, limits};
use tcpops_common::state::TcpState;

const EINVAL: i32 = 22;

/// A socket that may refuse one option, and count what is to be counted.
#[derive(Debug, Default)]
struct Socket {
    options: Cell<SocketOptions>,
    refuses: Cell<TcpOption>,
    unreadable: bool,
    counted: RefCell<Vec<Counter>>,
}

impl OptionAccess for Socket {
    fn set(&self, option: TcpOption, value: u32) -> Result<(), i32> {
        if self.refuses.get() == option || !option.takes(value) {
            return Err(-EINVAL);
        }
        let mut options = self.options.get();
        options.set(option, value);
        self.options.set(options);
        Ok(())
    }

    fn get(&self, option: TcpOption) -> Result<u32, i32> {
        if self.unreadable { Err(-EINVAL) } else { Ok(self.options.get().get(option)) }
    }

    fn bump(&self, counter: Counter) {
        self.counted.borrow_mut().push(counter);
    }
}

impl Socket {
    fn new(options: SocketOptions) -> Self {
        Self { options: Cell::new(options), ..Self::default() }
    }

    /// The program calls setsockopt(2), where the kernel asks first.
    fn program_sets(&self, connection: &mut Connection, option: TcpOption, value: u32) {
        let instead = match connection.program_sets(option, value) {
            Answer::Pass => value,
            Answer::Replace(instead) => instead,
            Answer::GiveWay(part) => {
                give_way(self, connection, part, 2);
                value
            }
        };
        self.set(option, instead).expect("the program sets what the kernel takes");
    }

    fn take_counted(&self) -> Vec<Counter> {
        self.counted.take()
    }
}

const PROGRAMS: SocketOptions =
    SocketOptions { keepalive: 0, keepcnt: 9, keepidle_s: 7200, keepintvl_s: 75, pad: 0, user_timeout_ms: 0 };
const WANTED: Options = Options {
    keepalive: Setting::Set,
    keepidle_s: 60,
    keepintvl_s: 10,
    keepcnt: 5,
    user_timeout: Setting::Set,
    user_timeout_ms: 95_000,
    ..Options::NONE
};
const RULE: Policy = Policy { options: WANTED, ..Policy::NONE };
const IN_FORCE: SocketOptions =
    SocketOptions { keepalive: 1, keepcnt: 5, keepidle_s: 60, keepintvl_s: 10, pad: 0, user_timeout_ms: 95_000 };

fn under(policy: Policy) -> Connection {
    Connection { state: TcpState::Established, policy, ..Connection::EMPTY }
}

/// A connection under a policy that was applied.
fn applied(policy: Policy, options: SocketOptions) -> (Socket, Connection) {
    let (socket, mut connection) = (Socket::new(options), under(policy));
    apply(&socket, &mut connection, 1);
    (socket, connection)
}

#[test]
fn a_policy_is_applied_and_taken_back() {
    let (socket, mut connection) = applied(RULE, PROGRAMS);
    assert_eq!((socket.options.get(), connection.in_force, connection.original), (IN_FORCE, IN_FORCE, PROGRAMS));
    assert_eq!((connection.outcome, connection.applied_boot_ns), (Outcome::Applied, 1));
    assert_eq!(socket.take_counted(), [Counter::Applied]);
    restore(&socket, &mut connection);
    assert_eq!((socket.options.get(), connection.touched), (PROGRAMS, 0));
    assert_eq!(socket.take_counted(), []);
}

#[test]
fn without_a_wish_nothing_is_touched() {
    let (socket, connection) = applied(Policy::NONE, PROGRAMS);
    assert_eq!((socket.options.get(), connection), (PROGRAMS, under(Policy::NONE)));
    assert_eq!(socket.take_counted(), []);
}

#[test]
fn options_are_applied_whole_or_not_at_all() {
    for option in TcpOption::ORDER {
        let socket = Socket::new(PROGRAMS);
        socket.refuses.set(option);
        let mut connection = under(RULE);
        apply(&socket, &mut connection, 1);
        assert_eq!((socket.options.get(), connection.in_force), (PROGRAMS, PROGRAMS), "{}", option.name());
        assert_eq!((connection.outcome, connection.refused), (Outcome::Refused, option));
        assert_eq!((i32::from(connection.errno), connection.touched), (EINVAL, 0));
        assert_eq!(socket.take_counted(), [Counter::Refused]);
    }
}

#[test]
fn what_fails_is_counted() {
    let socket = Socket { unreadable: true, ..Socket::default() };
    assert_eq!(socket.read(), SocketOptions::NONE);
    assert_eq!(socket.take_counted(), [Counter::GetsockoptFailed; 5]);
    let (socket, mut connection) = applied(RULE, PROGRAMS);
    socket.take_counted();
    socket.refuses.set(TcpOption::KeepIdle);
    restore(&socket, &mut connection);
    assert_eq!(socket.options.get(), SocketOptions { keepidle_s: 60, ..PROGRAMS });
    assert_eq!(socket.take_counted(), [Counter::RestoreFailed]);
}

#[test]
fn a_program_that_has_set_its_own_keeps_it_under_default() {
    let policy = Policy { options: Options { keepalive: Setting::Default, ..WANTED }, ..Policy::NONE };
    let own = SocketOptions { keepalive: 1, keepidle_s: 30, ..PROGRAMS };
    let (socket, connection) = applied(policy, own);
    assert_eq!(socket.options.get(), SocketOptions { user_timeout_ms: 95_000, ..own });
    assert_eq!((connection.outcome, connection.is_own(Part::Keepalive)), (Outcome::Applied, true));
    let alone = Policy { options: Options { user_timeout: Setting::Leave, ..policy.options }, ..policy };
    let (socket, connection) = applied(alone, own);
    assert_eq!((socket.options.get(), connection.outcome), (own, Outcome::Yielded));
}

#[test]
fn default_gives_way_to_what_is_set_later_part_by_part() {
    let options = Options { keepalive: Setting::Default, user_timeout: Setting::Default, ..WANTED };
    let (socket, mut connection) = applied(Policy { options, ..Policy::NONE }, PROGRAMS);
    assert_eq!(socket.options.get(), IN_FORCE);
    socket.program_sets(&mut connection, TcpOption::KeepIdle, 300);
    let expected = SocketOptions { keepidle_s: 300, user_timeout_ms: 95_000, ..PROGRAMS };
    assert_eq!((socket.options.get(), connection.in_force), (expected, expected));
    assert_eq!((connection.outcome, connection.applied_boot_ns), (Outcome::Yielded, 2));
}

#[test]
fn a_refused_override_leaves_the_policy_in_force() {
    let (socket, mut connection) = applied(RULE, PROGRAMS);
    socket.refuses.set(TcpOption::KeepCnt);
    let keepalive = Options { keepalive: Setting::Set, keepidle_s: 9, keepintvl_s: 9, keepcnt: 9, ..Options::NONE };
    let override_ = Policy { options: keepalive, options_pushed: 1, serial: 8, by_uid: 5, ..Policy::NONE };
    apply_override(&socket, &mut connection, &override_, 3);
    assert_eq!((connection.policy, connection.outcome), (Policy { serial: 8, ..RULE }, Outcome::Refused));
    assert!(!connection.awaits(&override_), "it was dealt with");
    // One that changed lifetimes alone touches no option.
    socket.take_counted();
    let lifetime = Policy { options_pushed: 0, serial: 9, lifetime_setting: Setting::Clear, ..override_ };
    apply_override(&socket, &mut connection, &lifetime, 4);
    assert_eq!((connection.policy.serial, connection.applied_boot_ns), (9, 3));
    assert_eq!(socket.take_counted(), []);
}

#[test]
fn when_the_rule_goes_the_program_gets_its_last_wish() {
    let (socket, mut connection) = applied(RULE, PROGRAMS);
    for (option, value) in [(TcpOption::KeepAlive, 1), (TcpOption::KeepIdle, 11), (TcpOption::UserTimeout, 7)] {
        socket.program_sets(&mut connection, option, value);
    }
    assert_eq!((socket.options.get(), connection.in_force), (IN_FORCE, IN_FORCE));
    assert_eq!(connection.reconsider(0, &Policy::NONE, &Policy::NONE), Reconsidered::OptionsChanged);
    reapply(&socket, &mut connection, 5);
    let wish = SocketOptions { keepalive: 1, keepidle_s: 11, user_timeout_ms: 7, ..PROGRAMS };
    assert_eq!((socket.options.get(), connection.touched, connection.outcome), (wish, 0, Outcome::Untouched));
}

fn within(limits: RangeInclusive<u64>) -> RangeInclusive<u32> {
    *limits.start() as u32..=*limits.end() as u32
}

prop_compose! {
    fn any_options()(
        keepalive in 0..=1_u8, keepcnt in within(limits::KEEPALIVE_COUNT),
        keepidle in within(limits::KEEPALIVE_SECONDS), keepintvl in within(limits::KEEPALIVE_SECONDS),
        user_timeout_ms in within(limits::USER_TIMEOUT_MS), has_timeout: bool,
    ) -> SocketOptions {
        SocketOptions {
            keepalive,
            keepcnt: keepcnt as u8,
            keepidle_s: keepidle as u16,
            keepintvl_s: keepintvl as u16,
            pad: 0,
            user_timeout_ms: if has_timeout { user_timeout_ms } else { 0 },
        }
    }
}

prop_compose! {
    /// A policy that a rule can have: what is off is off by its setting.
    fn any_policy()(
        values in any_options(), keepalive in any_setting(), user_timeout in any_setting(),
    ) -> Policy {
        let SocketOptions { keepcnt, keepidle_s, keepintvl_s, user_timeout_ms, .. } = values;
        let user_timeout_ms = user_timeout_ms.max(1);
        let options = Options { keepalive, user_timeout, keepcnt, pad: 0, keepidle_s, keepintvl_s, user_timeout_ms };
        Policy { options, ..Policy::NONE }
    }
}

fn any_setting() -> impl Strategy<Value = Setting> {
    select(&[Setting::Leave, Setting::Set, Setting::Clear, Setting::Default, Setting::Floor][..])
}

fn any_wish() -> impl Strategy<Value = (TcpOption, u32)> {
    (select(&TcpOption::ORDER[..]), any_options()).prop_map(|(option, options)| (option, options.get(option)))
}

proptest! {
    #[test]
    fn applying_and_restoring_gives_back_what_was_there(
        policies in prop::collection::vec(any_policy(), 1..4), before in any_options(),
        refused in select(&[TcpOption::None, TcpOption::UserTimeout, TcpOption::KeepCnt, TcpOption::KeepAlive][..]),
    ) {
        let (socket, mut connection) = (Socket::new(before), under(Policy::NONE));
        for policy in policies {
            connection.policy = policy;
            socket.refuses.set(refused);
            apply(&socket, &mut connection, 1);
            prop_assert_eq!(connection.touched == 0 || connection.original == before, true);
            if connection.outcome != Outcome::Untouched {
                prop_assert_eq!(connection.in_force, socket.options.get());
            }
            socket.refuses.set(TcpOption::None);
        }
        restore(&socket, &mut connection);
        prop_assert_eq!(socket.options.get(), before);
    }

    #[test]
    fn a_floor_is_never_looser_than_the_program(
        policy in any_policy(), before in any_options(), wishes in prop::collection::vec(any_wish(), 0..6),
    ) {
        let options = Options { keepalive: Setting::Floor, user_timeout: Setting::Floor, ..policy.options };
        let (socket, mut connection) = applied(Policy { options, ..policy }, before);
        let mut own = before;
        for (option, value) in wishes {
            socket.program_sets(&mut connection, option, value);
            own.set(option, value);
        }
        for option in TcpOption::ORDER {
            let (own, now) = (own.get(option), socket.options.get().get(option));
            // Zero is off.
            prop_assert!(now != 0 && (own == 0 || now <= own), "{}: {now}, the program wants {own}", option.name());
            prop_assert!(now <= options.get(option));
        }
    }

    #[test]
    fn the_program_gets_its_last_wish_when_no_policy_is_left(
        policies in prop::collection::vec(any_policy(), 1..4), before in any_options(),
        wishes in prop::collection::vec(any_wish(), 0..8),
    ) {
        let (socket, mut connection) = (Socket::new(before), under(Policy::NONE));
        let mut own = before;
        for (id, policy) in (1..).zip(policies) {
            if connection.reconsider(id, &policy, &Policy::NONE) == Reconsidered::OptionsChanged {
                reapply(&socket, &mut connection, 1);
            }
            prop_assert_eq!(connection.reconsider(id, &policy, &Policy::NONE), Reconsidered::Unchanged);
            for (option, value) in &wishes {
                socket.program_sets(&mut connection, *option, *value);
                own.set(*option, *value);
            }
            if connection.touched != 0 {
                prop_assert_eq!(connection.original, own);
                prop_assert_eq!(connection.in_force, socket.options.get());
            }
        }
        if connection.reconsider(0, &Policy::NONE, &Policy::NONE) == Reconsidered::OptionsChanged {
            reapply(&socket, &mut connection, 2);
        }
        prop_assert_eq!(socket.options.get(), own);
        prop_assert_eq!((connection.touched, connection.outcome), (0, Outcome::Untouched));
    }
}

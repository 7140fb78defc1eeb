//! A pinned map of the kernel programs as a table of typed entries.
//!
//! aya's maps want values of which every bit pattern is valid, and exclusive access for writing, which the kernel does not
//! ask for: a lock and a second handle to each map would follow.

use std::marker::PhantomData;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use aya::maps::{MapData, MapError, MapType};
use aya_obj::generated::{BPF_ANY, BPF_NOEXIST};
use bytemuck::checked::try_pod_read_unaligned;
use bytemuck::{CheckedBitPattern, NoUninit, Pod, bytes_of};

use crate::kernel::bpf::{Batch, delete_element, lookup_batch, lookup_element, update_element};
use crate::kernel::error::{KernelError, Result};
use crate::kernel::pins::Pins;

/// Entries read at a time: 192 KiB of keys and values where these are connections.
const BATCH: usize = 1024;

/// A hash, an array, a trie of prefixes or a socket storage.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    name: &'static str,
    map: MapData,
    max_entries: u32,
    entries: PhantomData<fn(K) -> V>,
}

/// A reading of all entries, batch by batch. An entry that is there throughout is read at least once.
#[derive(Debug)]
pub(crate) struct Batches<'a, K, V> {
    table: &'a Table<K, V>,
    /// The most entries of a batch.
    room: usize,
    cursor: Vec<u8>,
    begun: bool,
    ended: bool,
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl<K: Pod, V: CheckedBitPattern + NoUninit> Batches<'_, K, V> {
    /// Reads the next entries in place of those in `batch`; false after the last.
    pub(crate) fn next(&mut self, batch: &mut Vec<(K, V)>) -> Result<bool> {
        let Self { table, room, cursor, begun, ended, keys, values } = self;
        batch.clear();
        if *ended {
            return Ok(false);
        }
        let read = loop {
            keys.resize(*room * size_of::<K>(), 0);
            values.resize(*room * size_of::<V>(), 0);
            match lookup_batch(table.fd(), !*begun, cursor, keys, values, *room as u32) {
                Ok(Batch::More(read)) => break read,
                Ok(Batch::Last(read)) => {
                    *ended = true;
                    break read;
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => *room *= 2,
                Err(error) => return Err(KernelError::syscall("BPF_MAP_LOOKUP_BATCH", table.name)(error)),
            }
        };
        *begun = true;
        for (key, value) in keys.chunks_exact(size_of::<K>()).zip(values.chunks_exact(size_of::<V>())).take(read) {
            batch.push((bytemuck::pod_read_unaligned(key), table.decode(value)?));
        }
        Ok(true)
    }
}

/// A map that is opened for each use: it is used seldom, and a descriptor may be worth more. The kernel programs keep it.
#[derive(Debug)]
pub(crate) struct SeldomTable<K, V> {
    name: &'static str,
    pin: PathBuf,
    id: u32,
    entries: PhantomData<(K, V)>,
}

impl<K: Pod, V: CheckedBitPattern + NoUninit> SeldomTable<K, V> {
    /// The pinned map `name`.
    pub(crate) fn find(pins: &Pins, name: &'static str) -> Result<Self> {
        let id = pins.map_data(name)?.info().map_err(KernelError::map(name))?.id();
        Ok(Self { name, pin: pins.directory().join(name), id, entries: PhantomData })
    }

    /// Opens it, by its number where somebody has removed its pin: that takes CAP_SYS_ADMIN.
    pub(crate) fn open(&self) -> Result<Table<K, V>> {
        let map = MapData::from_pin(&self.pin).or_else(|_gone| MapData::from_id(self.id));
        Table::new(self.name, map.map_err(KernelError::map(self.name))?)
    }
}

impl<K: Pod, V: CheckedBitPattern + NoUninit> Table<K, V> {
    /// Opens the pinned map `name`.
    pub(crate) fn open(pins: &Pins, name: &'static str) -> Result<Self> {
        Self::new(name, pins.map_data(name)?)
    }

    /// # Errors
    /// `Map` where the map is of another kind, or its keys and values have other sizes.
    pub(crate) fn new(name: &'static str, map: MapData) -> Result<Self> {
        let check = || {
            let info = map.info()?;
            let (key, value) = (info.key_size() as usize, info.value_size() as usize);
            match info.map_type()? {
                MapType::Hash | MapType::Array | MapType::LpmTrie | MapType::SkStorage => {}
                other => return Err(MapError::InvalidMapType { map_type: other as u32 }),
            }
            if key != size_of::<K>() {
                return Err(MapError::InvalidKeySize { size: key, expected: size_of::<K>() });
            }
            if value != size_of::<V>() {
                return Err(MapError::InvalidValueSize { size: value, expected: size_of::<V>() });
            }
            Ok(info.max_entries())
        };
        let max_entries = check().map_err(KernelError::map(name))?;
        Ok(Self { name, map, max_entries, entries: PhantomData })
    }

    /// The number of entries that it has room for.
    pub(crate) fn max_entries(&self) -> u32 {
        self.max_entries
    }

    pub(crate) fn get(&self, key: K) -> Result<Option<V>> {
        self.bytes(key)?.map(|bytes| self.decode(&bytes)).transpose()
    }

    /// The value at an index of an array, where there always is one.
    pub(crate) fn at(&self, index: K) -> Result<V> {
        self.get(index)?.ok_or(KernelError::Value { name: self.name })
    }

    pub(crate) fn contains(&self, key: K) -> Result<bool> {
        Ok(self.bytes(key)?.is_some())
    }

    pub(crate) fn put(&self, key: K, value: &V) -> Result<()> {
        self.update(key, value, BPF_ANY)
    }

    /// # Errors
    /// `EEXIST` where there is an entry.
    pub(crate) fn put_new(&self, key: K, value: &V) -> Result<()> {
        self.update(key, value, BPF_NOEXIST)
    }

    /// Removes the entry, if there is one.
    pub(crate) fn remove(&self, key: K) -> Result<()> {
        match delete_element(self.fd(), bytes_of(&key)) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                Err(KernelError::syscall("BPF_MAP_DELETE_ELEM", self.name)(error))
            }
            _ => Ok(()),
        }
    }

    /// True if a hash has no entry. It looks at no more than the first that it finds.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        let mut is_empty = true;
        self.for_each_batch(|batch| {
            is_empty &= batch.is_empty();
            is_empty
        })?;
        Ok(is_empty)
    }

    pub(crate) fn keys(&self) -> Result<Vec<K>> {
        let mut keys = Vec::new();
        self.for_each_batch(|batch| {
            keys.extend(batch.iter().map(|(key, _)| *key));
            true
        })?;
        Ok(keys)
    }

    /// Hands every entry of a hash or a trie to `visit`, in batches; it answers false to stop. An entry that is there
    /// throughout is visited at least once.
    pub(crate) fn for_each_batch(&self, mut visit: impl FnMut(&mut Vec<(K, V)>) -> bool) -> Result<()> {
        let (mut batches, mut batch) = (self.batches(), Vec::new());
        while batches.next(&mut batch)? {
            if !visit(&mut batch) {
                break;
            }
        }
        Ok(())
    }

    /// A reading of a hash or a trie.
    pub(crate) fn batches(&self) -> Batches<'_, K, V> {
        Batches {
            table: self,
            room: BATCH,
            // The kernel keeps its place in a bucket's number or a key.
            cursor: vec![0; size_of::<K>().max(size_of::<u32>())],
            begun: false,
            ended: false,
            keys: Vec::new(),
            values: Vec::new(),
        }
    }

    fn bytes(&self, key: K) -> Result<Option<Vec<u8>>> {
        let mut value = vec![0; size_of::<V>()];
        match lookup_element(self.fd(), bytes_of(&key), &mut value) {
            Ok(()) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(KernelError::syscall("BPF_MAP_LOOKUP_ELEM", self.name)(error)),
        }
    }

    fn update(&self, key: K, value: &V, flags: u32) -> Result<()> {
        update_element(self.fd(), bytes_of(&key), bytes_of(value), flags.into())
            .map_err(KernelError::syscall("BPF_MAP_UPDATE_ELEM", self.name))
    }

    fn decode(&self, value: &[u8]) -> Result<V> {
        try_pod_read_unaligned(value).map_err(|_invalid| KernelError::Value { name: self.name })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }
}

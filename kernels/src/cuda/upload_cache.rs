//! Small arrays that every layer of a step needs on the GPU, uploaded once per step.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::thread::LocalKey;

use candle_core::{Device, DeviceLocation, Result, Tensor};

/// The most recent uploads by their host values. The layers of a step ask for the same ones.
pub(super) struct UploadCache<K, V>(RefCell<VecDeque<(DeviceLocation, K, V)>>);

/// More than a step needs: positions, slots and row maps of every chain, and the block tables.
const CAPACITY: usize = 64;

impl<K: PartialEq, V: Clone> UploadCache<K, V> {
    pub(super) const fn new() -> Self {
        Self(RefCell::new(VecDeque::new()))
    }

    /// The upload of `key` on `device`. If it is not cached, `upload` makes it.
    pub(super) fn get_or_upload(
        &self,
        device: &Device,
        key: K,
        upload: impl FnOnce(&K) -> Result<V>,
    ) -> Result<V> {
        let location = device.location();
        let matches = |(at, cached, _): &&(DeviceLocation, K, V)| *at == location && *cached == key;
        if let Some((_, _, uploaded)) = self.0.borrow().iter().find(matches) {
            return Ok(uploaded.clone());
        }
        let uploaded = upload(&key)?;
        let mut entries = self.0.borrow_mut();
        entries.truncate(CAPACITY - 1);
        entries.push_front((location, key, uploaded.clone()));
        Ok(uploaded)
    }
}

thread_local! {
    static INDICES: UploadCache<(Vec<u32>, Vec<usize>), Tensor> = const { UploadCache::new() };
    static SLOTS: UploadCache<Vec<i64>, Tensor> = const { UploadCache::new() };
}

/// `indices` as a u32 tensor of `shape` on `device`.
pub(super) fn indices(indices: Vec<u32>, shape: &[usize], device: &Device) -> Result<Tensor> {
    cached(&INDICES, device, (indices, shape.to_vec()), |(indices, shape)| {
        Tensor::from_slice(indices, shape.as_slice(), device)
    })
}

/// `slots` as an i64 tensor on `device`.
pub(super) fn slots(slots: &[i64], device: &Device) -> Result<Tensor> {
    cached(&SLOTS, device, slots.to_vec(), |slots| Tensor::new(slots.as_slice(), device))
}

fn cached<K: PartialEq>(
    cache: &'static LocalKey<UploadCache<K, Tensor>>,
    device: &Device,
    key: K,
    upload: impl FnOnce(&K) -> Result<Tensor>,
) -> Result<Tensor> {
    cache.with(|cache| cache.get_or_upload(device, key, upload))
}

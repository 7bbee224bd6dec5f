//! Small arrays that every layer of a step needs on the GPU, uploaded once per step.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::VecDeque;

use candle_core::{Device, Result, Tensor};

/// The most recent uploads by their host values. The layers of a step ask for the same ones.
pub(super) struct UploadCache<K, V> {
    capacity: usize,
    entries: RefCell<VecDeque<(Device, K, V)>>,
}

impl<K, V: Clone> UploadCache<K, V> {
    /// A cache of up to `capacity` uploads.
    pub(super) const fn new(capacity: usize) -> Self {
        Self { capacity, entries: RefCell::new(VecDeque::new()) }
    }

    /// The upload of `key` on `device`. If it is not cached, `upload` makes it.
    pub(super) fn get_or_upload<Q>(
        &self,
        device: &Device,
        key: &Q,
        upload: impl FnOnce() -> Result<V>,
    ) -> Result<V>
    where
        K: Borrow<Q>,
        Q: ToOwned<Owned = K> + PartialEq + ?Sized,
    {
        // Two `Device`s of one GPU are different devices to candle: their tensors do not mix.
        let matches = |(at, cached, _): &&(Device, K, V)| {
            at.same_device(device) && Borrow::<Q>::borrow(cached) == key
        };
        if let Some((_, _, uploaded)) = self.entries.borrow().iter().find(matches) {
            return Ok(uploaded.clone());
        }
        let uploaded = upload()?;
        let mut entries = self.entries.borrow_mut();
        entries.truncate(self.capacity - 1);
        entries.push_front((device.clone(), key.to_owned(), uploaded.clone()));
        Ok(uploaded)
    }
}

/// More arrays than a step needs: positions, slots and row maps of every chain.
const ARRAYS: usize = 64;

thread_local! {
    static INDICES: UploadCache<(Vec<u32>, Vec<usize>), Tensor> = const { UploadCache::new(ARRAYS) };
    static SLOTS: UploadCache<Vec<i64>, Tensor> = const { UploadCache::new(ARRAYS) };
}

/// `indices` as a u32 tensor of `shape` on `device`.
pub(super) fn indices(indices: Vec<u32>, shape: &[usize], device: &Device) -> Result<Tensor> {
    let key = (indices, shape.to_vec());
    INDICES.with(|cache| {
        cache.get_or_upload(device, &key, || Tensor::from_slice(&key.0, shape, device))
    })
}

/// `slots` as an i64 tensor on `device`.
pub(super) fn slots(slots: &[i64], device: &Device) -> Result<Tensor> {
    SLOTS.with(|cache| cache.get_or_upload(device, slots, || Tensor::new(slots, device)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_uploads_are_kept() -> Result<()> {
        let cache = UploadCache::<Vec<i64>, usize>::new(2);
        let uploads = std::cell::Cell::new(0);
        let get = |key: &[i64]| {
            cache.get_or_upload(&Device::Cpu, key, || {
                uploads.set(uploads.get() + 1);
                Ok(uploads.get())
            })
        };
        assert_eq!((get(&[1])?, get(&[1])?, get(&[2])?, get(&[1])?), (1, 1, 2, 1));
        assert_eq!((get(&[3])?, get(&[2])?, get(&[1])?), (3, 2, 4));
        Ok(())
    }
}

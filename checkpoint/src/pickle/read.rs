//! Reading a state dict.

use std::collections::BTreeMap;

use candle_core::pickle::Stack;

use super::archive::Archive;
use super::bounds::check_bounds;
use super::error::PickleError;
use super::state_dict::{tensors, Entries};
use super::strided::Strided;

/// The tensors of the state dict in `file`, by name. Only its pickle is read, no values.
pub(crate) fn read(
    file: &[u8],
    entries: Entries,
) -> Result<BTreeMap<String, Strided>, PickleError> {
    let archive = Archive::open(file)?;
    let pickle = check_bounds(&file[archive.pickle.clone()])?;
    let mut stack = Stack::empty();
    stack.read_loop(&mut &*pickle).map_err(PickleError::Run)?;
    let state_dict = stack.finalize().map_err(PickleError::Run)?;
    let mut found = BTreeMap::new();
    for (name, tensor) in tensors(state_dict, entries)? {
        let storage = archive.storage(&tensor.storage)?;
        let strided = tensor.in_storage(&name, storage)?;
        if found.contains_key(&name) {
            return Err(PickleError::Repeated(name));
        }
        found.insert(name, strided);
    }
    Ok(found)
}

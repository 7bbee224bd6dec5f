//! The tensors that the objects of a state dict describe.

use std::ops::Range;

use candle_core::pickle::Object;
use safetensors::Dtype;

use super::error::PickleError;
use super::strided::Strided;

/// The arguments of `torch._utils._rebuild_tensor_v2`.
pub(super) struct PickledTensor {
    dtype: Dtype,
    /// The key of its storage.
    pub storage: String,
    /// The position of its first element in the storage, in elements.
    offset: usize,
    shape: Vec<usize>,
    /// Per dimension, in elements.
    stride: Vec<usize>,
}

/// Which entries a file may have in addition to tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entries {
    /// Tensors only.
    Tensors,
    /// Those of the checkpoint of a training run: the entry `model` may be a state dict of its own, and entries of these
    /// names hold no weights.
    Training(fn(&str) -> bool),
}

/// Every tensor of a state dict, by name.
pub(super) fn tensors(
    object: Object,
    allowed: Entries,
) -> Result<Vec<(String, PickledTensor)>, PickleError> {
    let Object::Dict(entries) = object else {
        return Err(PickleError::NotAStateDict);
    };
    let mut found = Vec::new();
    for (name, value) in entries {
        let Object::Unicode(name) = name else {
            return Err(PickleError::NotAStateDict);
        };
        // PyTorch keeps the versions of its modules here.
        if name == "_metadata" {
            continue;
        }
        match (allowed, value) {
            (Entries::Training(is_ignored), _) if is_ignored(&name) => {}
            (Entries::Training(_), model @ Object::Dict(_)) if name == "model" => {
                found.extend(tensors(model, allowed)?);
            }
            (_, value) => {
                let tensor = tensor(&name, value)?;
                found.push((name, tensor));
            }
        }
    }
    Ok(found)
}

fn tensor(name: &str, value: Object) -> Result<PickledTensor, PickleError> {
    let error = |what| PickleError::NotATensor { name: name.to_owned(), what };
    let (function, arguments) = call(value).ok_or_else(|| error("expected a call"))?;
    match function.as_str() {
        "torch._utils._rebuild_tensor_v2" => rebuild_tensor(name, &arguments),
        // (data, requires_grad, backward_hooks)
        "torch._utils._rebuild_parameter" => match <[Object; 3]>::try_from(arguments) {
            Ok([data, _, _]) => tensor(name, data),
            Err(_) => Err(error("expected data, requires_grad and hooks")),
        },
        // (function, type, arguments, state)
        "torch._tensor._rebuild_from_type_v2" => match <[Object; 4]>::try_from(arguments) {
            Ok([function, _, arguments, _]) => tensor(
                name,
                Object::Reduce { callable: Box::new(function), args: Box::new(arguments) },
            ),
            Err(_) => Err(error("expected function, type, arguments and state")),
        },
        _ => Err(error("expected a call of torch._utils._rebuild_tensor_v2")),
    }
}

/// The full name of the function that `value` calls, and its arguments.
fn call(value: Object) -> Option<(String, Vec<Object>)> {
    let (callable, args) = value.reduce().ok()?;
    let (module, name) = callable.class().ok()?;
    Some((format!("{module}.{name}"), args.tuple().ok()?))
}

/// `arguments` are (storage, offset, shape, stride, requires_grad, hooks, metadata). Older versions write no metadata.
fn rebuild_tensor(name: &str, arguments: &[Object]) -> Result<PickledTensor, PickleError> {
    let error = |what| PickleError::NotATensor { name: name.to_owned(), what };
    let [storage, offset, shape, stride, others @ ..] = arguments else {
        return Err(error("expected storage, offset, shape and stride"));
    };
    let (class, storage) = storage_of(storage).ok_or_else(|| error("expected a storage"))?;
    let dtype = match class {
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        other => {
            return Err(PickleError::Storage { name: name.to_owned(), class: other.to_owned() })
        }
    };
    let (shape, stride) = match (sizes(shape), sizes(stride)) {
        (Some(shape), Some(stride)) if shape.len() == stride.len() => (shape, stride),
        _ => return Err(error("expected as many sizes as strides, of 0 or more")),
    };
    let offset = size(offset).ok_or_else(|| error("expected an offset of 0 or more"))?;
    check_metadata(name, others)?;
    Ok(PickledTensor { dtype, storage: storage.to_owned(), offset, shape, stride })
}

/// Checks that the values are as in the file. PyTorch negates or conjugates them as its metadata say. `others` are
/// (requires_grad, hooks, metadata).
fn check_metadata(name: &str, others: &[Object]) -> Result<(), PickleError> {
    let entries = match others {
        [] | [_] | [_, _] | [_, _, Object::None] => return Ok(()),
        [_, _, Object::Dict(entries)] => entries,
        _ => {
            let what = "expected requires_grad, hooks and a map of metadata after the stride";
            return Err(PickleError::NotATensor { name: name.to_owned(), what });
        }
    };
    match entries.iter().find(|(_, value)| *value != Object::Bool(false)) {
        None => Ok(()),
        Some((key, _)) => {
            let key = key.clone().unicode().unwrap_or_else(|key| format!("{key:?}"));
            Err(PickleError::Metadata { name: name.to_owned(), key })
        }
    }
}

/// Class and key of ("storage", class, key, device, elements).
fn storage_of(object: &Object) -> Option<(&str, &str)> {
    let Object::PersistentLoad(id) = object else {
        return None;
    };
    match &**id {
        Object::Tuple(id) => match id.as_slice() {
            [_, Object::Class { class_name, .. }, Object::Unicode(key), _, _] => {
                Some((class_name, key))
            }
            _ => None,
        },
        _ => None,
    }
}

fn sizes(object: &Object) -> Option<Vec<usize>> {
    match object {
        Object::Tuple(sizes) => sizes.iter().map(size).collect(),
        _ => None,
    }
}

fn size(object: &Object) -> Option<usize> {
    match *object {
        Object::Int(size) => size.try_into().ok(),
        Object::Long(size) => size.try_into().ok(),
        _ => None,
    }
}

impl PickledTensor {
    /// The position of the tensor in the file. `storage` is the position of its storage.
    pub fn in_storage(self, name: &str, storage: Range<usize>) -> Result<Strided, PickleError> {
        match self.bytes_in(&storage) {
            Some(bytes) => {
                let Self { dtype, shape, stride, .. } = self;
                Ok(Strided { dtype, shape, stride, bytes })
            }
            None => Err(PickleError::OutOfStorage {
                name: name.to_owned(),
                shape: self.shape,
                stride: self.stride,
                bytes: storage.len(),
            }),
        }
    }

    /// None if the tensor ends outside of `storage`, or has more elements than `storage`. The latter
    /// is possible with a stride of 0, and would let a small file describe a huge tensor.
    fn bytes_in(&self, storage: &Range<usize>) -> Option<Range<usize>> {
        let size = self.dtype.bitsize() / 8;
        let elements =
            self.shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
        let mut end = self.offset.checked_add(usize::from(elements > 0))?;
        for (&dim, &stride) in self.shape.iter().zip(&self.stride).filter(|_| elements > 0) {
            end = end.checked_add((dim - 1).checked_mul(stride)?)?;
        }
        let (begin, end) = (self.offset.checked_mul(size)?, end.checked_mul(size)?);
        let fits = end <= storage.len() && elements.checked_mul(size)? <= storage.len();
        fits.then(|| storage.start + begin..storage.start + end)
    }
}

//! The header of a safetensors file, read without trust: it says where in the file tensors stand.

use std::collections::BTreeMap;

use safetensors::tensor::TensorInfo;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::json_file::{self, JsonError};
use crate::shortened::{list, shortened};
use crate::unique_names::unique_names_but;

/// The longest header the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Why a file is no safetensors file, or a damaged one.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum HeaderError {
    #[error(
        "it is {0} bytes long; expected at least the 8 bytes that give the length of the header"
    )]
    NoLength(usize),
    #[error(
        "its first 8 bytes give a header of {length} bytes, but {after} bytes follow; expected a \
         header within those bytes, of at most {MAX_HEADER}"
    )]
    Length { length: u64, after: usize },
    #[error("its header is not a JSON map of tensors: {0}")]
    Json(#[from] JsonError),
    #[error(
        "tensor `{}` is placed at bytes {begin} to {end} of the data; expected it to begin \
         at {expected}, where the tensor before it ends",
        shortened(.tensor)
    )]
    Offsets { tensor: String, begin: usize, end: usize, expected: usize },
    #[error(
        "tensor `{}` of shape {} has {bytes} bytes; expected the bytes of as many elements as the \
         shape has",
        shortened(.tensor), list(.shape)
    )]
    Size { tensor: String, shape: Vec<usize>, bytes: usize },
    #[error("its header describes {described} bytes of data; {found} bytes follow it")]
    Data { described: usize, found: usize },
}

/// The tensors of a safetensors file.
#[derive(Debug)]
pub(crate) struct Header {
    pub tensors: BTreeMap<String, TensorInfo>,
    /// Where in the file the data begins, which offsets count from.
    pub data: usize,
}

impl Header {
    /// Reads the header at the front of `file`. When this succeeds, tensors follow each other in
    /// the data without gap or overlap, fill it, and have as many bytes as their shapes say.
    ///
    /// The safetensors crate adds up offsets before it compares them with the file's length, which
    /// overflows for crafted ones, and lets the last of two entries of one name win; hence not it.
    pub fn read(file: &[u8]) -> Result<Self, HeaderError> {
        let (length, rest) = file.split_first_chunk().ok_or(HeaderError::NoLength(file.len()))?;
        let length = u64::from_le_bytes(*length);
        let json = usize::try_from(length)
            .ok()
            .filter(|_| length <= MAX_HEADER)
            .and_then(|length| rest.get(..length))
            .ok_or(HeaderError::Length { length, after: rest.len() })?;
        let Tensors(tensors) = json_file::parse_bytes(json)?;
        check_places(&tensors, rest.len() - json.len())?;
        Ok(Self { tensors, data: size_of::<u64>() + json.len() })
    }
}

fn check_places(tensors: &BTreeMap<String, TensorInfo>, data: usize) -> Result<(), HeaderError> {
    let mut in_order: Vec<_> = tensors.iter().collect();
    in_order.sort_by_key(|(_, info)| info.data_offsets);
    let mut expected = 0;
    for (tensor, info) in in_order {
        let (tensor, (begin, end)) = (tensor.clone(), info.data_offsets);
        if begin != expected || end < begin {
            return Err(HeaderError::Offsets { tensor, begin, end, expected });
        }
        if byte_len(info) != Some(end - begin) {
            let (shape, bytes) = (info.shape.clone(), end - begin);
            return Err(HeaderError::Size { tensor, shape, bytes });
        }
        expected = end;
    }
    if expected != data {
        return Err(HeaderError::Data { described: expected, found: data });
    }
    Ok(())
}

/// None if elements do not fill whole bytes, or are too many to count.
fn byte_len(info: &TensorInfo) -> Option<usize> {
    let elements = info.shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
    let bits = elements.checked_mul(info.dtype.bitsize())?;
    (bits % 8 == 0).then_some(bits / 8)
}

/// The header's JSON.
struct Tensors(BTreeMap<String, TensorInfo>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        unique_names_but(deserializer, "__metadata__").map(Self)
    }
}

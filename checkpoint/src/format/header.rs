//! The header of a safetensors file: dtype, shape and position of every tensor, read without trust.

use std::collections::BTreeMap;

use safetensors::tensor::TensorInfo;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::json::{parse_bytes, unique_keys_except, JsonError};
use crate::text::{abbreviate, abbreviate_list};

/// The longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Why a file is not a valid safetensors file. Sizes and positions are in bytes.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file is too short to have a header.
    #[error(
        "it is {0} bytes long; expected at least the 8 bytes that give the length of the header"
    )]
    NoLength(usize),
    /// The length of the header is larger than the file or than the format allows.
    #[error(
        "its first 8 bytes give a header of {length} bytes, but {after} bytes follow; expected a \
         header within those bytes, of at most {MAX_HEADER}"
    )]
    Length {
        /// The length that the file gives for its header.
        length: u64,
        /// The bytes that follow these 8.
        after: usize,
    },
    /// The header is not the JSON that the format prescribes.
    #[error("its header is not a JSON map of tensors: {0}")]
    Json(#[from] JsonError),
    /// There is a gap between two tensors, or they overlap.
    #[error(
        "tensor `{}` is placed at bytes {begin} to {end} of the data; expected it to begin \
         at {expected}, where the tensor before it ends",
        abbreviate(.tensor)
    )]
    Offsets {
        /// The name of the tensor.
        tensor: String,
        /// Where the header places its first byte.
        begin: usize,
        /// Where the header places its end.
        end: usize,
        /// Where it should begin.
        expected: usize,
    },
    /// A tensor has more or fewer bytes than its shape and dtype need.
    #[error(
        "tensor `{}` of shape {} has {bytes} bytes; expected the bytes of as many elements as the \
         shape has",
        abbreviate(.tensor), abbreviate_list(.shape)
    )]
    Size {
        /// The name of the tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its bytes.
        bytes: usize,
    },
    /// The tensors do not fill the file, or do not fit it.
    #[error("its header describes {described} bytes of data; {found} bytes follow it")]
    Data {
        /// The bytes that the header describes.
        described: usize,
        /// The bytes that follow the header.
        found: usize,
    },
}

/// The tensors of a safetensors file.
#[derive(Debug)]
pub(crate) struct Header {
    /// Dtype, shape and offsets into the data, by name.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// The position of the data in the file.
    pub data: usize,
}

impl Header {
    /// Reads the header at the front of `file`. On success the tensors follow each other in the data
    /// without gap or overlap, fill it, and have as many bytes as their shapes need.
    ///
    /// The parser of the safetensors crate is not used. It adds up offsets before it compares them with the length of
    /// the file, which overflows for crafted ones, and keeps the last of two entries with one name.
    pub fn read(file: &[u8]) -> Result<Self, HeaderError> {
        let (length, rest) = file.split_first_chunk().ok_or(HeaderError::NoLength(file.len()))?;
        let length = u64::from_le_bytes(*length);
        let json = usize::try_from(length)
            .ok()
            .filter(|_| length <= MAX_HEADER)
            .and_then(|length| rest.get(..length))
            .ok_or(HeaderError::Length { length, after: rest.len() })?;
        let Tensors(tensors) = parse_bytes(json)?;
        check_positions(&tensors, rest.len() - json.len())?;
        Ok(Self { tensors, data: size_of::<u64>() + json.len() })
    }
}

fn check_positions(tensors: &BTreeMap<String, TensorInfo>, data: usize) -> Result<(), HeaderError> {
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

/// The bytes that a tensor needs; None if its elements do not fill whole bytes or if the number overflows.
fn byte_len(info: &TensorInfo) -> Option<usize> {
    let elements = info.shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
    let bits = elements.checked_mul(info.dtype.bitsize())?;
    (bits % 8 == 0).then_some(bits / 8)
}

/// The JSON of the header.
struct Tensors(BTreeMap<String, TensorInfo>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        unique_keys_except(deserializer, "__metadata__").map(Self)
    }
}

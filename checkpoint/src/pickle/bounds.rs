//! Limits of a pickle, checked before candle's reader runs it.
//!
//! candle's reader executes nothing, but it trusts lengths and copies objects out of the memo. A crafted file of a few
//! bytes can make it allocate gigabytes, shift out of range, or nest objects so deep that dropping them overflows the
//! stack. The check runs the same instructions, but computes only the sizes of the objects.

use std::collections::HashMap;

use thiserror::Error;

/// The deepest nesting. A tensor of a state dict nests about 10 deep.
const MAX_DEPTH: usize = 64;
/// The most bytes of objects, approximately: hundreds of times those of a model of 1,000 tensors.
const MAX_BYTES: usize = 256 << 20;
/// The bytes of an object without its text, approximately.
const OBJECT: usize = 64;

/// Which limit a pickle exceeds. Lengths and positions are in bytes.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum BoundsError {
    /// The pickle ends too early.
    #[error("it ends within the instruction at byte {at}")]
    CutShort {
        /// The position of the instruction.
        at: usize,
    },
    /// The instruction is not supported.
    #[error("instruction {code:#04x} at byte {at} is not one that PyTorch writes in a state dict")]
    Instruction {
        /// The code of the instruction.
        code: u8,
        /// The position of the instruction.
        at: usize,
    },
    /// The stack or the memo does not have the object.
    #[error("the instruction at byte {at} needs an object that is not there")]
    Missing {
        /// The position of the instruction.
        at: usize,
    },
    /// Objects are nested too deep.
    #[error("the instruction at byte {at} nests objects more than {MAX_DEPTH} deep")]
    TooDeep {
        /// The position of the instruction.
        at: usize,
    },
    /// The objects are too large.
    #[error("by byte {at} it has built objects of more than {MAX_BYTES} bytes")]
    TooLarge {
        /// The position of the instruction.
        at: usize,
    },
    /// An integer is too long.
    #[error("the integer at byte {at} has {bytes} bytes; expected at most 8")]
    Integer {
        /// The length of the integer.
        bytes: u8,
        /// The position of the instruction.
        at: usize,
    },
}

/// An entry of the stack: a mark, or the size of an object.
#[derive(Clone, Copy, PartialEq)]
enum Size {
    Mark,
    Object { depth: usize, bytes: usize },
}

/// Checks that candle's reader runs `pickle` in bounded memory and without a panic. Returns the
/// instructions up to the final one.
pub(super) fn check_bounds(pickle: &[u8]) -> Result<&[u8], BoundsError> {
    let mut run = Run { pickle, at: 0, next: 0, stack: Vec::new(), memo: HashMap::new(), bytes: 0 };
    while run.step()? {}
    Ok(&pickle[..run.next])
}

struct Run<'a> {
    pickle: &'a [u8],
    /// The position of the current instruction.
    at: usize,
    /// The position after what has been read of it.
    next: usize,
    stack: Vec<Size>,
    memo: HashMap<u32, Size>,
    /// The bytes of all objects built so far, including dropped ones.
    bytes: usize,
}

impl Run<'_> {
    /// Runs an instruction. Returns false at the end of the pickle.
    fn step(&mut self) -> Result<bool, BoundsError> {
        self.at = self.next;
        let [code] = self.read()?;
        match code {
            // Protocol.
            0x80 => drop(self.read::<1>()?),
            // None, booleans, empty tuple, list and map.
            b'N' | 0x88 | 0x89 | b')' | b']' | b'}' => self.push(1, 0)?,
            b'K' => self.leaf::<1>()?,
            b'M' => self.leaf::<2>()?,
            b'J' => self.leaf::<4>()?,
            b'G' => self.leaf::<8>()?,
            0x8a => self.long()?,
            b'X' => {
                let length = u32::from_le_bytes(self.read()?) as usize;
                self.skip(length)?;
                self.push(1, length)?;
            }
            b'c' => self.class()?,
            b'(' => self.stack.push(Size::Mark),
            // Tuples of one, two, three elements, and of all above the mark.
            0x85 => self.wrap(1)?,
            0x86 => self.wrap(2)?,
            0x87 => self.wrap(3)?,
            b't' => {
                let count = self.above_mark()?;
                let inner = self.pop(count)?;
                self.stack.pop();
                self.push_around(inner)?;
            }
            // A persistent id; a call with its arguments; an object with its state.
            b'Q' => self.wrap(1)?,
            b'R' | 0x81 | b'b' => self.wrap(2)?,
            // Into a list or a map: one element, or all above the mark.
            b'a' => self.put_into(1)?,
            b's' => self.put_into(2)?,
            b'e' | b'u' => {
                let count = self.above_mark()?;
                let inner = self.pop(count)?;
                self.stack.pop();
                self.merge(inner)?;
            }
            b'q' => {
                let [id] = self.read()?;
                self.remember(id.into())?;
            }
            b'r' => {
                let id = u32::from_le_bytes(self.read()?);
                self.remember(id)?;
            }
            b'h' => {
                let [id] = self.read()?;
                self.recall(id.into())?;
            }
            b'j' => {
                let id = u32::from_le_bytes(self.read()?);
                self.recall(id)?;
            }
            b'.' => {
                self.pop(1)?;
                return Ok(false);
            }
            code => return Err(BoundsError::Instruction { code, at: self.at }),
        }
        Ok(true)
    }

    fn read<const N: usize>(&mut self) -> Result<[u8; N], BoundsError> {
        let bytes = self.pickle.get(self.next..).and_then(|rest| rest.first_chunk());
        self.next += N;
        bytes.copied().ok_or(BoundsError::CutShort { at: self.at })
    }

    fn skip(&mut self, length: usize) -> Result<(), BoundsError> {
        if self.pickle.len() - self.next < length {
            return Err(BoundsError::CutShort { at: self.at });
        }
        self.next += length;
        Ok(())
    }

    fn leaf<const N: usize>(&mut self) -> Result<(), BoundsError> {
        self.read::<N>()?;
        self.push(1, 0)
    }

    fn long(&mut self) -> Result<(), BoundsError> {
        let [bytes] = self.read()?;
        if bytes > 8 {
            return Err(BoundsError::Integer { bytes, at: self.at });
        }
        self.skip(bytes.into())?;
        self.push(1, 0)
    }

    /// A class: its module and its name, a line each.
    fn class(&mut self) -> Result<(), BoundsError> {
        for _ in 0..2 {
            let rest = &self.pickle[self.next..];
            let line = rest.iter().position(|&byte| byte == b'\n');
            self.next += 1 + line.ok_or(BoundsError::CutShort { at: self.at })?;
        }
        self.push(1, self.next - self.at)
    }

    fn push(&mut self, depth: usize, text: usize) -> Result<(), BoundsError> {
        self.push_copy(Size::Object { depth, bytes: OBJECT + text })
    }

    /// Pushes a copy of an object and counts its bytes.
    fn push_copy(&mut self, size: Size) -> Result<(), BoundsError> {
        self.stack.push(size);
        self.count(size)
    }

    fn count(&mut self, size: Size) -> Result<(), BoundsError> {
        if let Size::Object { bytes, .. } = size {
            self.bytes += bytes;
        }
        if self.bytes > MAX_BYTES {
            return Err(BoundsError::TooLarge { at: self.at });
        }
        Ok(())
    }

    /// Removes the `count` topmost objects and returns their largest depth and the sum of their bytes.
    fn pop(&mut self, count: usize) -> Result<(usize, usize), BoundsError> {
        let (mut deepest, mut total) = (0, 0);
        for _ in 0..count {
            match self.stack.pop() {
                Some(Size::Object { depth, bytes }) => {
                    deepest = deepest.max(depth);
                    total += bytes;
                }
                Some(Size::Mark) | None => return Err(BoundsError::Missing { at: self.at }),
            }
        }
        Ok((deepest, total))
    }

    fn above_mark(&self) -> Result<usize, BoundsError> {
        let above = self.stack.iter().rev().position(|&size| size == Size::Mark);
        above.ok_or(BoundsError::Missing { at: self.at })
    }

    fn wrap(&mut self, count: usize) -> Result<(), BoundsError> {
        let inner = self.pop(count)?;
        self.push_around(inner)
    }

    /// Pushes an object that contains others, whose bytes are counted already.
    fn push_around(&mut self, (depth, bytes): (usize, usize)) -> Result<(), BoundsError> {
        // candle boxes both objects of a call and of an object with state.
        self.bytes += 2 * OBJECT;
        self.push_counted(depth + 1, bytes + 2 * OBJECT)
    }

    fn push_counted(&mut self, depth: usize, bytes: usize) -> Result<(), BoundsError> {
        if depth > MAX_DEPTH {
            return Err(BoundsError::TooDeep { at: self.at });
        }
        self.stack.push(Size::Object { depth, bytes });
        self.count(Size::Mark)
    }

    fn put_into(&mut self, count: usize) -> Result<(), BoundsError> {
        let inner = self.pop(count)?;
        self.merge(inner)
    }

    fn merge(&mut self, (depth, bytes): (usize, usize)) -> Result<(), BoundsError> {
        let (outer_depth, outer_bytes) = self.pop(1)?;
        self.push_counted(outer_depth.max(depth + 1), outer_bytes + bytes)
    }

    /// candle copies the object into its memo.
    fn remember(&mut self, id: u32) -> Result<(), BoundsError> {
        let &top = self.stack.last().ok_or(BoundsError::Missing { at: self.at })?;
        self.memo.insert(id, top);
        self.count(top)
    }

    fn recall(&mut self, id: u32) -> Result<(), BoundsError> {
        let &size = self.memo.get(&id).ok_or(BoundsError::Missing { at: self.at })?;
        self.push_copy(size)
    }
}

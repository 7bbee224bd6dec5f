//! A look at a pickle before candle's reader runs it.
//!
//! candle's reader executes nothing, but it trusts lengths and copies what the memo hands out, so a
//! crafted file of a few bytes makes it allocate gigabytes, shift out of range, or nest objects
//! deeper than the stack that drops them. Here the same instructions run over sizes alone.

use std::collections::HashMap;

use thiserror::Error;

/// A tensor of a state dict nests about 10 deep.
const MAX_DEPTH: usize = 64;
/// Bytes of objects a pickle may build, about: hundreds of times what a model of 1,000 tensors does.
const MAX_BYTES: usize = 256 << 20;
/// What an object takes without its text, about.
const OBJECT: usize = 64;

/// Why a pickle is not run. Positions count bytes from its beginning.
#[derive(Debug, Error, PartialEq)]
#[allow(missing_docs)]
pub enum GuardError {
    #[error("it ends within the instruction at byte {at}")]
    CutShort { at: usize },
    #[error("instruction {code:#04x} at byte {at} is not one that PyTorch writes in a state dict")]
    Instruction { code: u8, at: usize },
    #[error("the instruction at byte {at} needs an object that is not there")]
    Missing { at: usize },
    #[error("the instruction at byte {at} nests objects more than {MAX_DEPTH} deep")]
    TooDeep { at: usize },
    #[error("by byte {at} it has built objects of more than {MAX_BYTES} bytes")]
    TooLarge { at: usize },
    #[error("the integer at byte {at} has {bytes} bytes; expected at most 8")]
    Integer { bytes: u8, at: usize },
}

/// What is known of an object on the stack.
#[derive(Clone, Copy, PartialEq)]
enum Size {
    Mark,
    Object { depth: usize, bytes: usize },
}

/// Refuses a pickle that candle's reader could not run in bounded memory and without a panic.
/// Returns the instructions up to the one that ends them.
pub(crate) fn check(pickle: &[u8]) -> Result<&[u8], GuardError> {
    let mut run = Run { pickle, at: 0, next: 0, stack: Vec::new(), memo: HashMap::new(), bytes: 0 };
    while run.step()? {}
    Ok(&pickle[..run.next])
}

struct Run<'a> {
    pickle: &'a [u8],
    /// The instruction under way, and the byte after what has been read of it.
    at: usize,
    next: usize,
    stack: Vec<Size>,
    memo: HashMap<u32, Size>,
    /// Of all objects built so far, dropped ones too.
    bytes: usize,
}

impl Run<'_> {
    /// False when the pickle ends.
    fn step(&mut self) -> Result<bool, GuardError> {
        self.at = self.next;
        let [code] = self.read()?;
        match code {
            // Protocol.
            0x80 => drop(self.read::<1>()?),
            // Nothing, booleans, empty tuple, list and map.
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
            // Tuples of one, two, three and all up to the mark.
            0x85 => self.wrap(1)?,
            0x86 => self.wrap(2)?,
            0x87 => self.wrap(3)?,
            b't' => {
                let count = self.above_mark()?;
                let inner = self.pop(count)?;
                self.stack.pop();
                self.push_around(inner)?;
            }
            // A persistent id; a call, its arguments; an object, its state.
            b'Q' => self.wrap(1)?,
            b'R' | 0x81 | b'b' => self.wrap(2)?,
            // Into a list or a map: one, or all up to the mark.
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
            code => return Err(GuardError::Instruction { code, at: self.at }),
        }
        Ok(true)
    }

    fn read<const N: usize>(&mut self) -> Result<[u8; N], GuardError> {
        let bytes = self.pickle.get(self.next..).and_then(|rest| rest.first_chunk());
        self.next += N;
        bytes.copied().ok_or(GuardError::CutShort { at: self.at })
    }

    fn skip(&mut self, length: usize) -> Result<(), GuardError> {
        if self.pickle.len() - self.next < length {
            return Err(GuardError::CutShort { at: self.at });
        }
        self.next += length;
        Ok(())
    }

    fn leaf<const N: usize>(&mut self) -> Result<(), GuardError> {
        self.read::<N>()?;
        self.push(1, 0)
    }

    fn long(&mut self) -> Result<(), GuardError> {
        let [bytes] = self.read()?;
        if bytes > 8 {
            return Err(GuardError::Integer { bytes, at: self.at });
        }
        self.skip(bytes.into())?;
        self.push(1, 0)
    }

    /// Module and name of a class, a line each.
    fn class(&mut self) -> Result<(), GuardError> {
        for _ in 0..2 {
            let rest = &self.pickle[self.next..];
            let line = rest.iter().position(|&byte| byte == b'\n');
            self.next += 1 + line.ok_or(GuardError::CutShort { at: self.at })?;
        }
        self.push(1, self.next - self.at)
    }

    fn push(&mut self, depth: usize, text: usize) -> Result<(), GuardError> {
        self.push_copy(Size::Object { depth, bytes: OBJECT + text })
    }

    /// Pushes a copy of an object, all of whose bytes are new.
    fn push_copy(&mut self, size: Size) -> Result<(), GuardError> {
        self.stack.push(size);
        self.count(size)
    }

    fn count(&mut self, size: Size) -> Result<(), GuardError> {
        if let Size::Object { bytes, .. } = size {
            self.bytes += bytes;
        }
        if self.bytes > MAX_BYTES {
            return Err(GuardError::TooLarge { at: self.at });
        }
        Ok(())
    }

    /// The deepest and the bytes together of the `count` topmost objects, taken off the stack.
    fn pop(&mut self, count: usize) -> Result<(usize, usize), GuardError> {
        let (mut deepest, mut total) = (0, 0);
        for _ in 0..count {
            match self.stack.pop() {
                Some(Size::Object { depth, bytes }) => {
                    deepest = deepest.max(depth);
                    total += bytes;
                }
                Some(Size::Mark) | None => return Err(GuardError::Missing { at: self.at }),
            }
        }
        Ok((deepest, total))
    }

    fn above_mark(&self) -> Result<usize, GuardError> {
        let above = self.stack.iter().rev().position(|&size| size == Size::Mark);
        above.ok_or(GuardError::Missing { at: self.at })
    }

    fn wrap(&mut self, count: usize) -> Result<(), GuardError> {
        let inner = self.pop(count)?;
        self.push_around(inner)
    }

    /// Pushes an object that holds others, whose bytes are counted already.
    fn push_around(&mut self, (depth, bytes): (usize, usize)) -> Result<(), GuardError> {
        // A call's or state's holder boxes both its objects.
        self.bytes += 2 * OBJECT;
        self.push_counted(depth + 1, bytes + 2 * OBJECT)
    }

    fn push_counted(&mut self, depth: usize, bytes: usize) -> Result<(), GuardError> {
        if depth > MAX_DEPTH {
            return Err(GuardError::TooDeep { at: self.at });
        }
        self.stack.push(Size::Object { depth, bytes });
        self.count(Size::Mark)
    }

    fn put_into(&mut self, count: usize) -> Result<(), GuardError> {
        let inner = self.pop(count)?;
        self.merge(inner)
    }

    fn merge(&mut self, (depth, bytes): (usize, usize)) -> Result<(), GuardError> {
        let (outer_depth, outer_bytes) = self.pop(1)?;
        self.push_counted(outer_depth.max(depth + 1), outer_bytes + bytes)
    }

    /// candle's memo holds copies.
    fn remember(&mut self, id: u32) -> Result<(), GuardError> {
        let &top = self.stack.last().ok_or(GuardError::Missing { at: self.at })?;
        self.memo.insert(id, top);
        self.count(top)
    }

    fn recall(&mut self, id: u32) -> Result<(), GuardError> {
        let &size = self.memo.get(&id).ok_or(GuardError::Missing { at: self.at })?;
        self.push_copy(size)
    }
}

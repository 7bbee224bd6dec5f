//! What every layer of a step asks a GPU to be told, told once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::thread::LocalKey;

use candle_core::{Device, DeviceLocation, Result, Tensor};

/// The last few answers, found again by their questions: the layers of a step ask the same ones.
pub(super) struct Remembered<Q, A>(RefCell<VecDeque<(DeviceLocation, Q, A)>>);

/// More than a step asks: positions, slots and places of every chain, and the tables.
const ANSWERS: usize = 64;

impl<Q: PartialEq, A: Clone> Remembered<Q, A> {
    pub(super) const fn new() -> Self {
        Self(RefCell::new(VecDeque::new()))
    }

    /// The answer to `question` on `device`, made by `answer` if it is not among the last ones.
    pub(super) fn get(
        &self,
        device: &Device,
        question: Q,
        answer: impl FnOnce(&Q) -> Result<A>,
    ) -> Result<A> {
        let location = device.location();
        let known =
            |(at, known, _): &&(DeviceLocation, Q, A)| *at == location && *known == question;
        if let Some((_, _, answer)) = self.0.borrow().iter().find(known) {
            return Ok(answer.clone());
        }
        let answer = answer(&question)?;
        let mut answers = self.0.borrow_mut();
        answers.truncate(ANSWERS - 1);
        answers.push_front((location, question, answer.clone()));
        Ok(answer)
    }
}

thread_local! {
    static COUNTS: Remembered<(Vec<u32>, Vec<usize>), Tensor> = const { Remembered::new() };
    static SLOTS: Remembered<Vec<i64>, Tensor> = const { Remembered::new() };
}

/// `counts` in the shape `shape` on `device`.
pub(super) fn counts(counts: Vec<u32>, shape: &[usize], device: &Device) -> Result<Tensor> {
    on_device(&COUNTS, device, (counts, shape.to_vec()), |(counts, shape)| {
        Tensor::from_slice(counts, shape.as_slice(), device)
    })
}

/// `slots` on `device`.
pub(super) fn slots(slots: &[i64], device: &Device) -> Result<Tensor> {
    on_device(&SLOTS, device, slots.to_vec(), |slots| Tensor::new(slots.as_slice(), device))
}

fn on_device<Q: PartialEq>(
    remembered: &'static LocalKey<Remembered<Q, Tensor>>,
    device: &Device,
    question: Q,
    answer: impl FnOnce(&Q) -> Result<Tensor>,
) -> Result<Tensor> {
    remembered.with(|remembered| remembered.get(device, question, answer))
}

//! Carries out a [`Plan`]: weights stream from the source's files to the new ones.
//!
//! One thread gathers the bytes of the new files in their order, piece by piece; another writes
//! them. So memory holds a few pieces and the mapped pages behind them, whatever the size of the
//! checkpoint, and reading and writing overlap.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::thread;

use crate::accompanying::accompanying_files;
use crate::error::CheckpointError;
use crate::index::Index;
use crate::layout::INDEX_FILE;
use crate::new_folder::{final_name, parent, NewFolder};
use crate::plan::{Plan, PlannedFile, PlannedTensor};
use crate::room::free_bytes;
use crate::source::Source;
use crate::strip::Strip;
use crate::tensor_file::TensorFile;

/// About as many bytes are gathered before they are written.
const PIECE: usize = 4 << 20;
/// How many pieces may wait to be written.
const WAITING: usize = 4;
/// After as many gathered bytes the source's mapped pages are let go.
const MAPPED: usize = 64 << 20;

/// How far the writing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of weights written.
    pub done: u64,
    /// Bytes of weights to write in all.
    pub total: u64,
}

/// What a tensor takes in the header of its file and in the index beside its names, about, in bytes.
const ENTRY: usize = 150;

impl Plan {
    /// Refuses a folder that [`Self::write`] would refuse, before any weights are read: one that exists and
    /// is not to be replaced, that holds the source or lies in it, or whose file system has too little room; and a
    /// source whose tokenizer and generation files cannot be copied.
    pub fn check_destination(
        &self,
        source: &Source,
        dir: &Path,
        replace: bool,
    ) -> Result<(), CheckpointError> {
        refuse_overlap(source.dir(), dir)?;
        let free = free_bytes(parent(&final_name(dir, replace)?));
        let needed = self.bytes_on_disk(source)?;
        match free {
            Some(free) if free < needed => {
                let parameters = self.parameters();
                Err(CheckpointError::NoRoom { dir: dir.into(), parameters, needed, free })
            }
            _ => Ok(()),
        }
    }

    /// About the bytes of all files.
    fn bytes_on_disk(&self, source: &Source) -> Result<u128, CheckpointError> {
        let entries: usize = self.tensors().map(|tensor| 2 * tensor.name.len() + ENTRY).sum();
        let mut bytes = u128::from(self.byte_len()) + (entries + self.config.len()) as u128;
        for file in accompanying_files(source.dir()) {
            bytes += u128::from(file?.length()?);
        }
        Ok(bytes)
    }

    /// Writes the checkpoint to folder `dir`, with weights from `source` and the tokenizer and
    /// generation files beside them. `progress` hears of every few MB.
    ///
    /// The folder appears when it is complete and on the disk. One that exists is refused, or
    /// with `replace` stands until the new one is complete and then gives way to it. After an error
    /// everything is as before.
    pub fn write(
        &self,
        source: &Source,
        dir: &Path,
        replace: bool,
        mut progress: impl FnMut(Progress),
    ) -> Result<(), CheckpointError> {
        self.check_destination(source, dir, replace)?;
        let folder = NewFolder::create(dir, replace)?;
        folder.write_text("config.json", &self.config)?;
        for file in accompanying_files(source.dir()) {
            let file = file?;
            folder.write_bytes(&file.name, &file.read()?)?;
        }
        let mut state = Progress { done: 0, total: self.byte_len() };
        for file in &self.files {
            let mut written = |bytes: usize| {
                state.done += bytes as u64;
                progress(state);
            };
            file.write(source, &folder, &mut written)?;
        }
        if self.indexed {
            folder.write_text(INDEX_FILE, &self.index()?)?;
        }
        folder.finish()
    }

    fn index(&self) -> Result<String, CheckpointError> {
        let named = self.files.iter().flat_map(|file| {
            file.tensors.iter().map(|tensor| (tensor.name.clone(), file.name.clone()))
        });
        Index::json(named.collect::<BTreeMap<_, _>>(), self.byte_len())
            .map_err(CheckpointError::Json)
    }
}

/// Neither folder may hold the other: the source is not to be changed, nor replaced.
fn refuse_overlap(source: &Path, dir: &Path) -> Result<(), CheckpointError> {
    let overlap = || CheckpointError::Overlap { source_dir: source.into(), dir: dir.into() };
    let Ok(source) = source.canonicalize() else {
        return Ok(()); // gone since it was opened
    };
    // What does not exist yet has no canonical path, but its nearest existing ancestor has.
    let existing = std::iter::successors(Some(dir), |dir| Some(parent(dir)))
        .find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    match existing {
        Some((_, ancestor)) if ancestor.starts_with(&source) => Err(overlap()),
        Some((ancestor, canonical)) if ancestor == dir && source.starts_with(&canonical) => {
            Err(overlap())
        }
        _ => Ok(()),
    }
}

impl PlannedFile {
    fn write(
        &self,
        source: &Source,
        folder: &NewFolder,
        written: &mut impl FnMut(usize),
    ) -> Result<(), CheckpointError> {
        let tensors = self
            .tensors
            .iter()
            .map(|tensor| (tensor.name.clone(), tensor.dtype, tensor.shape.clone()));
        let mut file = TensorFile::create(folder.path(&self.name), tensors)?;
        thread::scope(|scope| {
            let (full, pieces) = sync_channel(WAITING);
            let (empty, buffers) = sync_channel(WAITING);
            scope.spawn(move || {
                let mut gatherer = Gatherer { source, full, buffers, since_release: 0 };
                let gathered = self.tensors.iter().try_for_each(|tensor| gatherer.gather(tensor));
                if let Err(Stop::Failed(error)) = gathered {
                    // If nobody listens any more, writing has failed as well.
                    let _ = gatherer.full.send(Err(*error));
                }
            });
            for piece in pieces {
                let mut piece: Vec<u8> = piece?;
                file.append(&piece)?;
                written(piece.len());
                piece.clear();
                // The gatherer may have finished.
                let _ = empty.try_send(piece);
            }
            Ok::<_, CheckpointError>(())
        })?;
        file.finish()
    }
}

/// Why gathering ends early.
enum Stop {
    Failed(Box<CheckpointError>),
    /// The writer has failed and listens no more.
    NobodyListens,
}

impl From<CheckpointError> for Stop {
    fn from(error: CheckpointError) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// Gathers the bytes of tensors and hands them over piece by piece.
struct Gatherer<'a> {
    source: &'a Source,
    full: SyncSender<Result<Vec<u8>, CheckpointError>>,
    /// Written pieces come back here, to be filled again.
    buffers: Receiver<Vec<u8>>,
    since_release: usize,
}

impl Gatherer<'_> {
    fn gather(&mut self, tensor: &PlannedTensor) -> Result<(), Stop> {
        let rows_in_piece = (PIECE / tensor.row_len().max(1)).max(1);
        let mut overflows = 0;
        for strip in Strip::all(tensor) {
            let blocks = strip.open(self.source)?;
            let mut filling = strip.fill(&blocks);
            for begin in strip.rows.clone().step_by(rows_in_piece) {
                let mut piece = self.buffers.try_recv().unwrap_or_default();
                for row in begin..(begin + rows_in_piece).min(strip.rows.end) {
                    overflows += filling.push_row(row, &mut piece);
                }
                self.hand_over(piece)?;
            }
        }
        if overflows > 0 {
            let (name, dtype) = (tensor.name.clone(), tensor.dtype);
            return Err(CheckpointError::Overflow { name, dtype, count: overflows }.into());
        }
        Ok(())
    }

    fn hand_over(&mut self, piece: Vec<u8>) -> Result<(), Stop> {
        self.since_release += piece.len();
        self.full.send(Ok(piece)).map_err(|_| Stop::NobodyListens)?;
        if self.since_release >= MAPPED {
            self.source.release_pages()?;
            self.since_release = 0;
        }
        Ok(())
    }
}

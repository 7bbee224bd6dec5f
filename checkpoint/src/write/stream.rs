//! Carries out a [`ConversionPlan`]: weights stream from the source to the new files.
//!
//! One thread reads the bytes of the new files in order, piece by piece, and another writes them. So memory holds a few
//! pieces and the mapped pages behind them, regardless of the size of the checkpoint, and reading and writing overlap.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::thread;

use super::atomic_folder::AtomicFolder;
use super::destination::{check_no_overlap, final_path, parent};
use super::disk_space::free_bytes;
use super::row_band::RowBand;
use super::safetensors_file::SafetensorsFile;
use crate::convert::{ConversionPlan, PlannedFile, PlannedTensor};
use crate::format::{CheckpointError, Index, INDEX_FILE};
use crate::read::{side_files, Progress, Source};

/// The approximate size of a piece in bytes.
const PIECE: usize = 4 << 20;
/// How many pieces may wait to be written.
const QUEUE: usize = 4;
/// The bytes of weights after which the mapped pages of the source are released.
const RELEASE_AFTER: usize = 64 << 20;

/// The approximate bytes of a tensor in header and index, without its name.
const ENTRY: usize = 150;

impl ConversionPlan {
    /// Checks, before any weights are read, that [`Self::write`] can write folder `dir`.
    ///
    /// # Errors
    /// If `dir` exists and `replace` is false, if it contains the source or lies in it, if a link in the source leads
    /// into it, if its file system has too little space, or if the side files of the source cannot be read.
    pub fn check_destination(
        &self,
        source: &Source,
        dir: &Path,
        replace: bool,
    ) -> Result<(), CheckpointError> {
        check_no_overlap(source.dir(), dir)?;
        let free = free_bytes(parent(&final_path(dir, replace)?));
        let needed = self.bytes_on_disk(source)?;
        match free {
            Some(free) if free < needed => {
                let parameters = self.parameters();
                Err(CheckpointError::DiskSpace { dir: dir.into(), parameters, needed, free })
            }
            _ => Ok(()),
        }
    }

    /// The approximate bytes of all files.
    fn bytes_on_disk(&self, source: &Source) -> Result<u128, CheckpointError> {
        let entries: usize = self.tensors().map(|tensor| 2 * tensor.name.len() + ENTRY).sum();
        let mut bytes = u128::from(self.byte_len()) + (entries + self.config.len()) as u128;
        bytes += self.python_files.iter().map(|(_, text)| text.len() as u128).sum::<u128>();
        for file in side_files(source.dir()) {
            bytes += u128::from(file?.length()?);
        }
        Ok(bytes)
    }

    /// Writes the checkpoint to folder `dir`, with the weights and the side files (tokenizer, chat
    /// template, documents) of `source`. The README of another model is written as `SOURCE_README.md`. `progress` is
    /// called every few MB.
    ///
    /// The folder appears when it is complete and synced to disk. With `replace`, an existing folder
    /// stays until then. After an error everything is as before.
    ///
    /// # Errors
    /// Those of [`Self::check_destination`]; if reading or writing fails; or
    /// [`CheckpointError::Overflow`] if values are too large for their new dtype.
    pub fn write(
        &self,
        source: &Source,
        dir: &Path,
        replace: bool,
        mut progress: impl FnMut(Progress),
    ) -> Result<(), CheckpointError> {
        self.check_destination(source, dir, replace)?;
        let folder = AtomicFolder::create(dir, replace)?;
        folder.write_text("config.json", &self.config)?;
        for (name, text) in self.python_files {
            folder.write_bytes(name, text.as_bytes())?;
        }
        for file in side_files(source.dir()) {
            let file = file?;
            let bytes = file.read()?;
            if self.keeps_readme {
                folder.write_bytes(&file.name, &bytes)?;
            } else {
                folder.write_bytes(&file.name_beside_other_weights(), &bytes)?;
            }
        }
        let mut state = Progress { done: 0, total: self.byte_len() };
        for file in &self.files {
            let mut written = |bytes: usize| {
                state.done += bytes as u64;
                progress(state);
            };
            file.write(source, &folder, &mut written)?;
        }
        if self.has_index {
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

impl PlannedFile {
    fn write(
        &self,
        source: &Source,
        folder: &AtomicFolder,
        written: &mut impl FnMut(usize),
    ) -> Result<(), CheckpointError> {
        let tensors = self
            .tensors
            .iter()
            .map(|tensor| (tensor.name.clone(), tensor.dtype, tensor.shape.clone()));
        let mut file = SafetensorsFile::create(folder.path(&self.name), tensors)?;
        thread::scope(|scope| {
            let (full, pieces) = sync_channel(QUEUE);
            let (empty, buffers) = sync_channel(QUEUE);
            scope.spawn(move || {
                let mut reader = PieceReader { source, full, buffers, since_release: 0 };
                let read = self.tensors.iter().try_for_each(|tensor| reader.read(tensor));
                if let Err(Stop::Failed(error)) = read {
                    // A closed channel means that writing has failed as well.
                    let _ = reader.full.send(Err(*error));
                }
            });
            for piece in pieces {
                let mut piece: Vec<u8> = piece?;
                file.append(&piece)?;
                written(piece.len());
                piece.clear();
                // The reader may have finished.
                let _ = empty.try_send(piece);
            }
            Ok::<_, CheckpointError>(())
        })?;
        file.finish()
    }
}

/// Why reading ends early.
enum Stop {
    Failed(Box<CheckpointError>),
    /// The writer has failed and closed the channel.
    WriterFailed,
}

impl From<CheckpointError> for Stop {
    fn from(error: CheckpointError) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// Reads the bytes of tensors and sends them to the writer piece by piece.
struct PieceReader<'a> {
    source: &'a Source,
    full: SyncSender<Result<Vec<u8>, CheckpointError>>,
    /// Written pieces, to be reused.
    buffers: Receiver<Vec<u8>>,
    since_release: usize,
}

impl PieceReader<'_> {
    fn read(&mut self, tensor: &PlannedTensor) -> Result<(), Stop> {
        let rows_in_piece = (PIECE / tensor.row_len().max(1)).max(1);
        let mut overflows = 0;
        for band in RowBand::split(tensor) {
            let weights = band.open(self.source)?;
            let mut open_band = band.with_weights(&weights);
            for begin in band.rows.clone().step_by(rows_in_piece) {
                let mut piece = self.buffers.try_recv().unwrap_or_default();
                for row in begin..(begin + rows_in_piece).min(band.rows.end) {
                    overflows += open_band.push_row(row, &mut piece);
                }
                self.send(piece)?;
            }
        }
        if overflows > 0 {
            let (name, dtype) = (tensor.name.clone(), tensor.dtype);
            return Err(CheckpointError::Overflow { name, dtype, count: overflows }.into());
        }
        Ok(())
    }

    fn send(&mut self, piece: Vec<u8>) -> Result<(), Stop> {
        self.since_release += piece.len();
        self.full.send(Ok(piece)).map_err(|_| Stop::WriterFailed)?;
        if self.since_release >= RELEASE_AFTER {
            self.source.release_pages()?;
            self.since_release = 0;
        }
        Ok(())
    }
}

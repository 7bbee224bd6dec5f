//! Files as torch.save writes them.

use std::io::{Cursor, Write};

use colm_checkpoint::Dtype;
use colm_testing::small_checkpoint::Tensor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::folder::Tensors;

/// An entry of a state dict.
pub enum Entry<'a> {
    Tensor(&'a Tensor),
    /// A tensor with a map of metadata, as a pickle.
    WithMetadata(&'a Tensor, &'static [u8]),
    /// A tensor of complex numbers, with a storage of 16 bytes.
    Complex,
    Map(Vec<(String, Entry<'a>)>),
    Number(u8),
}

/// All `tensors` as entries.
pub fn entries(tensors: &Tensors) -> Vec<(String, Entry<'_>)> {
    tensors.iter().map(|(name, tensor)| (name.clone(), Entry::Tensor(tensor))).collect()
}

/// The bytes of a file with these entries.
pub fn state_dict(entries: Vec<(String, Entry)>) -> Vec<u8> {
    let mut writer = Writer { pickle: b"\x80\x02".to_vec(), storages: Vec::new() };
    writer.map(entries);
    writer.pickle.push(b'.');
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: String, bytes: &[u8]| {
        archive.start_file(name, stored).unwrap();
        archive.write_all(bytes).unwrap();
    };
    add("archive/data.pkl".into(), &writer.pickle);
    for (key, bytes) in writer.storages.iter().enumerate() {
        add(format!("archive/data/{key}"), bytes);
    }
    archive.finish().unwrap().into_inner()
}

struct Writer {
    pickle: Vec<u8>,
    storages: Vec<Vec<u8>>,
}

impl Writer {
    fn map(&mut self, entries: Vec<(String, Entry)>) {
        self.pickle.extend(b"}(");
        for (name, entry) in entries {
            self.text(&name);
            match entry {
                Entry::Tensor(tensor) => self.real(tensor, b""),
                Entry::WithMetadata(tensor, metadata) => self.real(tensor, metadata),
                Entry::Complex => self.tensor("ComplexFloatStorage", &[2], vec![0; 16], b""),
                Entry::Map(entries) => self.map(entries),
                Entry::Number(number) => self.pickle.extend([b'K', number]),
            }
        }
        self.pickle.push(b'u');
    }

    fn real(&mut self, tensor: &Tensor, metadata: &[u8]) {
        let class = match tensor.dtype {
            Dtype::F16 => "HalfStorage",
            Dtype::BF16 => "BFloat16Storage",
            _ => "FloatStorage",
        };
        self.tensor(class, &tensor.shape, tensor.bytes.clone(), metadata);
    }

    fn tensor(&mut self, class: &str, shape: &[usize], bytes: Vec<u8>, metadata: &[u8]) {
        let elements: usize = shape.iter().product();
        self.pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.pickle.extend(format!("ctorch\n{class}\n").bytes());
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.number(elements);
        self.pickle.extend(b"tQK\0");
        self.numbers(shape);
        let strides: Vec<_> = (0..shape.len()).map(|at| shape[at + 1..].iter().product()).collect();
        self.numbers(&strides);
        self.pickle.extend(b"\x89)");
        self.pickle.extend(metadata);
        self.pickle.extend(b"tR");
        self.storages.push(bytes);
    }

    fn text(&mut self, text: &str) {
        self.pickle.push(b'X');
        self.pickle.extend((text.len() as u32).to_le_bytes());
        self.pickle.extend(text.bytes());
    }

    fn number(&mut self, number: usize) {
        self.pickle.push(b'J');
        self.pickle.extend(i32::try_from(number).unwrap().to_le_bytes());
    }

    fn numbers(&mut self, numbers: &[usize]) {
        self.pickle.push(b'(');
        numbers.iter().for_each(|&number| self.number(number));
        self.pickle.push(b't');
    }
}

//! Reading JSON files, and the errors of invalid ones.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use colm_checkpoint::json::{parse, parse_text, read, read_text, JsonError, JsonFileError};
use colm_checkpoint::FileError;
use serde::Deserialize;
use serde_json::{json, Value};
use tempfile::TempDir;

#[derive(Debug, Deserialize, PartialEq)]
struct Fields {
    count: usize,
    #[serde(default)]
    inner: Option<Inner>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Inner {
    factor: f64,
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("x.json")
    }

    fn write(&self, bytes: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(), bytes).unwrap();
        self.path()
    }
}

/// The error of the file, whose message names it.
fn read_error(path: &Path) -> JsonError {
    let JsonFileError { path: named, source } = read::<Fields>(path).unwrap_err();
    assert_eq!(named, path);
    source
}

#[test]
fn a_file_is_read() {
    let folder = Folder::new();
    let path = folder.write(r#"{"count": 2, "inner": {"factor": 0.5}, "other": [NaN, -Infinity]}"#);
    let expected = Fields { count: 2, inner: Some(Inner { factor: 0.5 }) };
    assert_eq!(read::<Fields>(&path).unwrap(), expected);
    let text = read_text(&path).unwrap();
    assert!(text.contains("[NaN, -Infinity]"), "{text}");
    assert_eq!(parse::<Fields>(&text, Path::new("elsewhere")).unwrap(), expected);
    let value: Value = parse_text(&text).unwrap();
    assert_eq!(value["other"], json!(["NaN", "-Infinity"]));
}

#[test]
fn a_field_is_named_by_its_path() {
    let folder = Folder::new();
    let path = folder.write("{\"count\": 2,\n\"inner\": {\"factor\": Infinity}}");
    let error = read::<Fields>(&path).unwrap_err().to_string();
    let expected =
        "`inner.factor`: invalid type: string \"Infinity\", expected a number at line 2 column";
    assert!(error.starts_with(&format!("{}: {expected}", path.display())), "{error}");
    folder.write(r#"{"inner": null}"#);
    assert!(
        matches!(read_error(&path), JsonError::Type(what) if what.contains("missing field `count`"))
    );
}

#[test]
fn invalid_json_gives_line_and_column() {
    let folder = Folder::new();
    let cases = [
        ("{\n  \"count\": 1,\n}", "line 3 column 1"),
        ("{\"count\": nan}", "line 1 column 12"),
        ("{\"count\": 1}\n{}", "line 2 column 1"),
        ("", "line 1 column 0"),
        (&format!("{{\"count\": 1, \"x\": {}", "[".repeat(100_000)), "EOF"),
        (&format!("{{\"inner\": {}", "[".repeat(100_000)), "`inner[0]`"),
    ];
    for (text, words) in cases {
        let error = read_error(&folder.write(text)).to_string();
        assert!(error.contains(words), "no {words:?} in: {error}");
    }
    // Nesting depth is limited where values are read.
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let error = parse_text::<Value>(&nested).unwrap_err().to_string();
    assert!(error.contains("recursion limit exceeded at line 1"), "{error}");
}

#[test]
fn invalid_utf_8_and_byte_order_marks_are_errors() {
    let folder = Folder::new();
    let path = folder.write(b"\xef\xbb\xbf{\"count\": 1}");
    assert!(matches!(read_error(&path), JsonError::ByteOrderMark));
    assert!(matches!(read_text(&path).unwrap_err().source, JsonError::ByteOrderMark));
    let error = parse_text::<Fields>("\u{feff}{\"count\": 1}").unwrap_err().to_string();
    assert!(
        error.contains("begins with a byte-order mark; save it as UTF-8 without one"),
        "{error}"
    );
    folder.write(b"{\"count\xff\": 1}");
    assert!(matches!(read_error(&path), JsonError::NotUtf8 { at: 7 }));
    // UTF-16.
    folder.write(b"\xff\xfe{\0}\0");
    assert!(matches!(read_error(&path), JsonError::NotUtf8 { at: 0 }));
}

#[test]
fn a_missing_or_too_long_file_is_an_error() {
    let folder = Folder::new();
    let path = folder.path();
    assert!(matches!(read_error(&path), JsonError::File(FileError::Missing)));
    File::create(&path).unwrap().set_len(100_000_001).unwrap();
    assert!(matches!(read_error(&path), JsonError::TooLong { most: 100_000_000 }));
}

/// Opening a FIFO would block, and a device may be endless.
#[cfg(target_os = "linux")]
#[test]
fn special_files_are_immediate_errors() {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{mknodat, FileType, Mode, CWD};

    let folder = Folder::new();
    let kind = |path: &Path| match read_error(path) {
        JsonError::File(FileError::NotRegular(kind)) => kind,
        other => panic!("{other}"),
    };
    assert_eq!(kind(folder.0.path()), "a folder");
    let fifo = folder.path();
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert_eq!(kind(&fifo), "a FIFO");
    let socket = folder.0.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(kind(&socket), "a socket");
    assert_eq!(kind(Path::new("/dev/zero")), "a device");
    // The same behind a link.
    let link = folder.0.path().join("link");
    symlink(&fifo, &link).unwrap();
    assert_eq!(kind(&link), "a FIFO");
    let error = read::<Fields>(&link).unwrap_err().to_string();
    assert_eq!(error, format!("{}: it is a FIFO; expected a regular file", link.display()));
}

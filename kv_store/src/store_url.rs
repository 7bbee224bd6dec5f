//! Where a store is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;

/// Where a store is, as the user writes it.
///
/// | URL | store |
/// |---|---|
/// | `file:///absolute/folder` | files in a folder, which several processes may share |
/// | `redis://[[user]:password@]host[:port][/database]` | Redis; `valkey://` is the same |
/// | `rediss://..` | Redis over TLS |
/// | `s3://bucket[/prefix]` | S3, if the crate is built with the feature `s3` |
/// | `memory:` | the memory of this process, for tests; each handle has its own store |
/// | `memory:name` | the same, shared by all handles of the process with this name |
///
/// A password is percent-encoded where a URL requires it. It is shown nowhere: [`Display`](fmt::Display)
/// and [`Debug`] have `***` in its place.
///
/// ```
/// use colm_kv_store::StoreUrl;
///
/// let url: StoreUrl = "redis://:secret@cache.example/2".parse().unwrap();
/// assert_eq!(url.to_string(), "redis://:***@cache.example:6379/2");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(pub(crate) Location);

/// A [`StoreUrl`], taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Location {
    Folder(PathBuf),
    Memory(String),
    Redis(Box<RedisAddress>),
    #[cfg(feature = "s3")]
    S3 {
        bucket: String,
        /// Without slashes at its ends.
        prefix: String,
    },
}

/// A database of a Redis server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisAddress {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub database: i64,
    pub user: Option<String>,
    pub password: Option<String>,
}

/// A URL that names no store.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the KV store {url:?} {problem}. Expected file:///absolute/folder, \
     redis://[:password@]host[:port][/database], rediss://.. for TLS, or s3://bucket/prefix"
)]
pub struct UrlError {
    /// What was given, without a password.
    pub url: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let parsed = Url::parse(text).map_err(|error| format!("is not a URL ({error})"));
        let location = parsed.and_then(|url| location(text, &url));
        location.map(Self).map_err(|problem| UrlError { url: without_password(text), problem })
    }
}

/// The location that `url` names, or what is wrong with it.
fn location(text: &str, url: &Url) -> Result<Location, String> {
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a part after ? or #, which means nothing here".into());
    }
    match url.scheme() {
        "file" => folder(text, url),
        "memory" => Ok(Location::Memory(url.path().into())),
        "redis" | "valkey" => redis(url, false),
        "rediss" => redis(url, true),
        "s3" => s3(url),
        scheme => Err(format!("has the unknown scheme {scheme:?}")),
    }
}

fn folder(text: &str, url: &Url) -> Result<Location, String> {
    // A parsed URL no longer shows whether the path was absolute.
    if !text.to_ascii_lowercase().starts_with("file:///") {
        return Err("does not begin with file:/// (three slashes)".into());
    }
    let path = url.to_file_path().map_err(|()| "names no folder".to_string())?;
    if path.parent().is_none() {
        return Err(
            "names the root of the file system, expected a folder for the store alone".into()
        );
    }
    Ok(Location::Folder(path))
}

fn redis(url: &Url, tls: bool) -> Result<Location, String> {
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("has no host")?;
    if host.starts_with('[') {
        // The brackets would be passed on to the resolver.
        return Err("has an IPv6 address, expected a host name or an IPv4 address".into());
    }
    let database = match url.path().trim_start_matches('/') {
        "" => 0,
        digits => digits.parse::<u16>().map_err(|_| {
            // With an @, it is the rest of a password that has a slash.
            let shown = if digits.contains('@') { "***" } else { digits };
            format!("has the database {shown:?}, expected a number from 0 to {}", u16::MAX)
        })?,
    };
    let text = |text: &str, what: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded
            .map(|decoded| decoded.into_owned())
            .map_err(|_| format!("has a {what} that is not UTF-8"))
    };
    Ok(Location::Redis(Box::new(RedisAddress {
        tls,
        host: host.into(),
        port: url.port().unwrap_or(6379),
        database: database.into(),
        user: match url.username() {
            "" => None,
            user => Some(text(user, "user")?),
        },
        password: url.password().map(|password| text(password, "password")).transpose()?,
    })))
}

#[cfg(feature = "s3")]
fn s3(url: &Url) -> Result<Location, String> {
    let bucket = url.host_str().filter(|bucket| !bucket.is_empty()).ok_or("has no bucket")?;
    if !url.username().is_empty() || url.password().is_some() || url.port().is_some() {
        return Err(
            "has a user, password or port; S3 takes credentials and endpoint from AWS_* variables"
                .into(),
        );
    }
    let prefix = percent_decode_str(url.path()).decode_utf8();
    let prefix = prefix.map_err(|_| "has a prefix that is not UTF-8")?;
    Ok(Location::S3 { bucket: bucket.into(), prefix: prefix.trim_matches('/').into() })
}

#[cfg(not(feature = "s3"))]
fn s3(_: &Url) -> Result<Location, String> {
    Err("needs S3, and this program was built without the feature s3".into())
}

/// `text` without what may be a password, even if it is not a valid URL.
pub fn without_password(text: &str) -> String {
    // The path of a folder is not secret, and may contain anything.
    if text.to_ascii_lowercase().starts_with("file:///") {
        return text.into();
    }
    let is_scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (format!("{scheme}:"), rest),
        _ => (String::new(), text),
    };
    let (slashes, rest) = rest.strip_prefix("//").map_or(("", rest), |rest| ("//", rest));
    // After the last @, because one in the password may have been written as it is.
    let (login, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("***@", rest));
    let (place, parameters) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], format!("{}***", &rest[at..=at])),
        None => (rest, String::new()),
    };
    let host = place.split('/').next().unwrap_or("");
    // A login whose host was forgotten looks like a host with a strange port.
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let place = if port.chars().all(|c| c.is_ascii_digit()) || host.starts_with('[') {
        place
    } else {
        "***"
    };
    format!("{scheme}{slashes}{login}{place}{parameters}")
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Location::Folder(path) => write!(formatter, "file://{}", path.display()),
            Location::Memory(name) => write!(formatter, "memory:{name}"),
            Location::Redis(address) => write!(formatter, "{address}"),
            #[cfg(feature = "s3")]
            Location::S3 { bucket, prefix } => write!(formatter, "s3://{bucket}/{prefix}"),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StoreUrl({self})")
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, host, port, database, user, password } = self;
        let scheme = if *tls { "rediss" } else { "redis" };
        let user = user.as_deref().unwrap_or("");
        let login = match password {
            Some(_) => format!("{user}:***@"),
            None if user.is_empty() => String::new(),
            None => format!("{user}@"),
        };
        write!(formatter, "{scheme}://{login}{host}:{port}/{database}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<StoreUrl>().unwrap_or_else(|error| panic!("{error}")).to_string()
    }

    fn problem(text: &str) -> String {
        let error = text.parse::<StoreUrl>().expect_err(text);
        let message = error.to_string();
        assert!(message.contains("file:///absolute/folder"), "{message}");
        message
    }

    #[test]
    fn urls_are_read() {
        assert_eq!(shown("file:///var/lib/colm%20kv"), "file:///var/lib/colm kv");
        assert_eq!(shown("redis://localhost"), "redis://localhost:6379/0");
        assert_eq!(shown("valkey://10.0.0.1:7000/3"), "redis://10.0.0.1:7000/3");
        assert_eq!(shown("rediss://ada@cache/"), "rediss://ada@cache:6379/0");
        assert_eq!(shown("memory:"), "memory:");
        assert_eq!(shown("memory:tests"), "memory:tests");
    }

    #[test]
    fn passwords_are_decoded_and_not_shown() {
        let url: StoreUrl = "redis://ada:p%40ss%2Fword@cache:1/2".parse().unwrap();
        let Location::Redis(address) = &url.0 else { panic!("{url}") };
        assert_eq!(address.password.as_deref(), Some("p@ss/word"));
        assert_eq!(address.user.as_deref(), Some("ada"));
        assert_eq!(url.to_string(), "redis://ada:***@cache:1/2");
        assert_eq!(format!("{url:?}"), "StoreUrl(redis://ada:***@cache:1/2)");
        assert_eq!(shown("redis://:secret@cache"), "redis://:***@cache:6379/0");
    }

    #[test]
    fn errors_hide_passwords() {
        for text in [
            "redis://:secret@cache/x",
            "redis://:sec/ret@cache",
            "redis://ada:12/secret@cache",
            "redis://ada:s@secret@cache/x",
            "redis://ada:s@ec:ret@cache/x",
            "redis:ada:secret@cache",
            "redis:/ada:secret@cache",
            "http://u:secret@cache",
            "ada:secret@cache",
            "//:secret@cache",
            ":secret@cache",
            "secret@cache",
        ] {
            let error = text.parse::<StoreUrl>().expect_err(text);
            for message in [problem(text), format!("{error:?}")] {
                assert!(!message.contains("sec") && !message.contains("ec:ret"), "{message}");
                assert!(message.contains("***@cache"), "{message}");
            }
        }
        for text in [
            "redis://ada:secret",
            "redis://ada:secret/0",
            "redis://:secret",
            "redis:ada:secret",
            "redis://cache?password=secret",
            "redis://cache#secret",
        ] {
            let message = problem(text);
            assert!(!message.contains("sec"), "{message}");
            assert!(message.contains("redis:"), "{message}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert!(problem("/var/kv").contains("\"/var/kv\" is not a URL"));
        assert!(problem("http://host").contains("unknown scheme \"http\""));
        assert!(problem("file://relative/kv").contains("three slashes"));
        assert!(problem("file:relative").contains("three slashes"));
        assert!(problem("file:///").contains("root of the file system"));
        assert!(problem("redis:///0").contains("no host"));
        assert!(problem("redis://cache/one").contains("database \"one\""));
        assert!(problem("redis://cache/-1").contains("database \"-1\""));
        assert!(problem("redis://[::1]/").contains("IPv6"));
        assert!(problem("redis://cache?db=1").contains("after ?"));
        assert!(problem("redis://cache:99999").contains("port"));
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn s3_needs_its_feature() {
        assert!(problem("s3://bucket/prefix").contains("without the feature s3"));
    }

    #[cfg(feature = "s3")]
    #[test]
    fn s3_has_a_bucket_and_a_prefix() {
        assert_eq!(shown("s3://bucket/a/b/"), "s3://bucket/a/b");
        assert_eq!(shown("s3://bucket"), "s3://bucket/");
        assert!(problem("s3:///prefix").contains("no bucket"));
        assert!(problem("s3://key:secret@bucket").contains("AWS_"));
    }
}

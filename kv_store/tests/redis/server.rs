//! As much of a Redis server as a store needs.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server in this process. It ends with the process.
pub struct Server {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    values: HashMap<(Vec<u8>, Vec<u8>), Vec<u8>>,
    password: Option<&'static str>,
    /// Connections, to be cut by a restart.
    streams: Vec<TcpStream>,
    /// Commands are answered only when this is false again.
    silent: bool,
    /// Commands are answered with an error.
    failing: bool,
    longest_answer: usize,
    /// How often another server has become the primary. Earlier connections are those of a replica.
    failovers: usize,
}

/// What a connection has chosen.
struct Session {
    /// Those before it.
    failovers: usize,
    database: Vec<u8>,
    authenticated: bool,
}

impl Server {
    /// Starts at a free port.
    pub fn start(password: Option<&'static str>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), password)
    }

    pub fn start_at(address: SocketAddr, password: Option<&'static str>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { password, ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                state.lock().unwrap().streams.push(stream.try_clone().unwrap());
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    /// Cuts all connections and forgets all values.
    pub fn restart_empty(&self) {
        let mut state = self.state.lock().unwrap();
        state.values.clear();
        for stream in state.streams.drain(..) {
            // Fails if the client has closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// From now on, the address leads to another server with the same values. The one before it becomes a replica that
    /// gives no values, and keeps its connections.
    pub fn fail_over(&self) {
        self.state.lock().unwrap().failovers += 1;
    }

    /// From now on, nothing is answered, or everything again.
    pub fn set_silent(&self, silent: bool) {
        self.state.lock().unwrap().silent = silent;
    }

    /// From now on, everything is answered with an error, or nothing.
    pub fn set_failing(&self, failing: bool) {
        self.state.lock().unwrap().failing = failing;
    }

    /// Bytes of the longest answer so far.
    pub fn longest_answer(&self) -> usize {
        self.state.lock().unwrap().longest_answer
    }

    /// Appends `bytes` bytes to the value of each key.
    pub fn lengthen(&self, bytes: usize) {
        let mut state = self.state.lock().unwrap();
        state.values.values_mut().for_each(|value| value.resize(value.len() + bytes, 0));
    }

    /// Databases and keys.
    pub fn keys(&self) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let state = self.state.lock().unwrap();
        state.values.keys().map(|(database, key)| (text(database), text(key))).collect()
    }

    /// Flips a bit of the value of each key.
    pub fn damage(&self) {
        self.state.lock().unwrap().values.values_mut().for_each(|value| value[200] ^= 1);
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let failovers = state.lock().unwrap().failovers;
    let mut session = Session { failovers, database: b"0".to_vec(), authenticated: false };
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(command) = read_command(&mut reader) {
        while state.lock().unwrap().silent {
            std::thread::sleep(Duration::from_millis(5));
        }
        let answer = {
            let mut state = state.lock().unwrap();
            let answer = state.answer(&mut session, &command);
            state.longest_answer = state.longest_answer.max(answer.len());
            answer
        };
        if writer.write_all(&answer).is_err() {
            return;
        }
    }
}

/// An array of strings. `None` at the end of the connection.
fn read_command(reader: &mut impl BufRead) -> Option<Vec<Vec<u8>>> {
    let count = read_number(reader, '*')?;
    (0..count)
        .map(|_| {
            let mut string = vec![0; read_number(reader, '$')? + 2];
            reader.read_exact(&mut string).ok()?;
            string.truncate(string.len() - 2);
            Some(string)
        })
        .collect()
}

fn read_number(reader: &mut impl BufRead, kind: char) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.trim_end().strip_prefix(kind)?.parse().ok()
}

impl State {
    fn answer(&mut self, session: &mut Session, command: &[Vec<u8>]) -> Vec<u8> {
        let ok = b"+OK\r\n".to_vec();
        let name = String::from_utf8_lossy(&command[0]).to_uppercase();
        if name == "AUTH" {
            session.authenticated =
                self.password.is_some_and(|right| command[1] == right.as_bytes());
            return if session.authenticated { ok } else { b"-WRONGPASS wrong\r\n".to_vec() };
        }
        if self.password.is_some() && !session.authenticated {
            return b"-NOAUTH Authentication required.\r\n".to_vec();
        }
        if self.failing {
            return b"-ERR the disk is on fire\r\n".to_vec();
        }
        let replica = session.failovers < self.failovers;
        let place = |key: &[u8]| (session.database.clone(), key.to_vec());
        match name.as_str() {
            "SET" if replica => {
                b"-READONLY You can't write against a read only replica.\r\n".to_vec()
            }
            "GETRANGE" if replica => b"-MASTERDOWN Link with MASTER is down.\r\n".to_vec(),
            "PING" => b"+PONG\r\n".to_vec(),
            "CLIENT" => ok,
            "SELECT" => {
                session.database = command[1].clone();
                ok
            }
            "GETRANGE" => {
                let number = |text: &[u8]| String::from_utf8_lossy(text).parse::<usize>().unwrap();
                let value = self.values.get(&place(&command[1])).map_or(&[][..], Vec::as_slice);
                let end = value.len().min(number(&command[3]) + 1);
                let value = &value[number(&command[2]).min(end)..end];
                [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
            }
            "EXISTS" => {
                let found = self.values.contains_key(&place(&command[1]));
                format!(":{}\r\n", u8::from(found)).into_bytes()
            }
            "SET" => {
                self.values.insert(place(&command[1]), command[2].clone());
                ok
            }
            _ => format!("-ERR unknown command {name}\r\n").into_bytes(),
        }
    }
}

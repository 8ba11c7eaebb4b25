//! A proxy before a server: bytes go through as they are, until a plan says otherwise.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a delay is: less than the patience of any client.
const DELAY: Duration = Duration::from_millis(100);
/// How a pack begins.
const PACK: [u8; 4] = *b"PACK";

/// What happens at a place of what flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// The connection breaks, for both.
    Cut,
    /// What flows ends there, as if that were all.
    Truncate,
    /// It goes on a little later.
    Delay,
    /// Nothing comes any more, and nobody is told.
    Stall,
    /// One bit is another. The place is counted from the beginning of a pack: nothing else that flows has a checksum,
    /// so that over plain TCP nobody could tell a damaged name of a ref from another name.
    Corrupt,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// Every connection is spoiled like this.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub way: Way,
    pub what: Spoil,
    /// After so many bytes of the connection.
    pub at: u64,
}

/// Runs until its test ends.
pub struct Spoiler {
    pub address: SocketAddr,
    plan: Arc<Mutex<Option<Plan>>>,
    spoiled: Arc<AtomicU64>,
}

impl Spoiler {
    /// A proxy before the server at this address.
    pub fn start(server: SocketAddr) -> Spoiler {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let spoiler = Spoiler { address, plan: Arc::default(), spoiled: Arc::default() };
        let (plan, spoiled) = (spoiler.plan.clone(), spoiler.spoiled.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                for (from, to, way) in [(&client, &server, Way::ToServer), (&server, &client, Way::ToClient)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let plan = plan.lock().unwrap().filter(|plan| plan.way == way);
                    let spoiled = spoiled.clone();
                    std::thread::spawn(move || drop(Flow { from, to, plan, spoiled, at: 0, last: [0; 4] }.run()));
                }
            }
        });
        spoiler
    }

    /// From now on, connections are spoiled; not at all by `None`.
    pub fn plan(&self, plan: Option<Plan>) {
        *self.plan.lock().unwrap() = plan;
    }

    /// How many connections were spoiled.
    pub fn spoiled(&self) -> u64 {
        self.spoiled.load(Ordering::Relaxed)
    }
}

/// One direction of a connection.
struct Flow {
    from: TcpStream,
    to: TcpStream,
    plan: Option<Plan>,
    spoiled: Arc<AtomicU64>,
    /// What has flowed, as the plan counts it.
    at: u64,
    last: [u8; 4],
}

impl Flow {
    fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = self.from.read(&mut buffer).unwrap_or(0);
            if count == 0 {
                return self.to.shutdown(Shutdown::Write);
            }
            let data = &mut buffer[..count];
            let Some((what, place)) = self.meets(data) else {
                self.to.write_all(data)?;
                continue;
            };
            self.plan = None;
            self.spoiled.fetch_add(1, Ordering::Relaxed);
            if what == Spoil::Corrupt {
                data[place] ^= 1 << (self.at % 8);
                self.to.write_all(data)?;
                continue;
            }
            self.to.write_all(&data[..place])?;
            match what {
                Spoil::Delay => {
                    std::thread::sleep(DELAY);
                    self.to.write_all(&data[place..])?;
                    continue;
                }
                Spoil::Cut => {
                    let _ = self.to.shutdown(Shutdown::Both);
                    return self.from.shutdown(Shutdown::Both);
                }
                Spoil::Truncate => self.to.shutdown(Shutdown::Write)?,
                Spoil::Stall | Spoil::Corrupt => {}
            }
            // The rest goes nowhere, and the sender does not notice.
            return io::copy(&mut self.from, &mut io::sink()).map(drop);
        }
    }

    /// Counts what flows; where in it the plan is to be carried out.
    fn meets(&mut self, data: &[u8]) -> Option<(Spoil, usize)> {
        let Plan { what, at, .. } = self.plan?;
        let from_pack = what == Spoil::Corrupt;
        for (place, byte) in data.iter().enumerate() {
            let counts = !from_pack || self.last == PACK;
            if counts && self.at == at {
                return Some((what, place));
            }
            if counts {
                self.at += 1;
            } else {
                self.last = [self.last[1], self.last[2], self.last[3], *byte];
            }
        }
        None
    }
}

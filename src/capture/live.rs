//! Live interfaces, read with libpcap.
//!
//! Whoever opens a [`LiveCapture`] reads it and decodes in the same thread: between the kernel's ring and the flow tables
//! there is no queue, so that the kernel's counter is the one place where frames are lost. Several wires of one
//! interface share its load by the kernel's fan-out.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use pcap::{Active, Capture, Device, Error, IfFlags, Precision, Stat};

use super::{Batch, CaptureError, Frame};
use crate::model::{Loss, Nanos};

/// How long the kernel gathers frames, and how long a read waits for them, in milliseconds. It bounds how late a
/// window closes on a silent wire.
const WAIT_MS: u16 = 100;

/// How often a silent wire is asked whether its interface is up.
const LOOK: Duration = Duration::from_secs(1);

/// An expression that no frame passes.
const NOTHING: &str = "less 1 and greater 2";

/// Frames of a batch.
const BATCH: usize = 1024;

/// How frames are taken from an interface.
#[derive(Clone, Debug)]
pub struct CaptureOptions {
    /// Bytes kept of each frame.
    pub snaplen: u32,
    /// Bytes of the kernel's buffer, for each wire.
    pub buffer: u32,
    /// Whether frames to other hosts are asked for.
    pub promiscuous: bool,
    /// A BPF expression for the kernel.
    pub filter: Option<String>,
}

/// An interface that is being read.
pub struct LiveCapture {
    capture: Capture<Active>,
    link: u16,
    /// Nanoseconds of one unit of the fraction of a second.
    unit: Nanos,
    counted: Stat,
    name: String,
    /// The system has an interface of this name, and says whether it is up.
    real: bool,
    /// Of several wires of one interface this one tells what the interface dropped.
    is_primary: bool,
    /// Frames read since it was opened, and what the kernel says it gave: all but the dropped.
    read: u64,
    given: u64,
    /// When it was last asked whether the interface is up.
    looked: Instant,
    /// libpcap says that it is gone: another of the name may be there, which has to be opened.
    lost: bool,
}

impl LiveCapture {
    /// Opens an interface. Wires with one `group` share its frames, those of one flow going to one of them; they
    /// give none before each of them was [started](LiveCapture::start_capture).
    pub fn open(
        name: &str,
        tap: &CaptureOptions,
        group: Option<u16>,
        is_primary: bool,
    ) -> Result<Self, CaptureError> {
        let open = |precision| {
            Capture::from_device(name)?
                .promisc(tap.promiscuous)
                .snaplen(tap.snaplen.try_into().unwrap_or(i32::MAX))
                .buffer_size(tap.buffer.try_into().unwrap_or(i32::MAX))
                .timeout(WAIT_MS.into())
                .immediate_mode(false)
                .precision(precision)
                .open()
        };
        let (mut capture, unit) = match open(Precision::Nano) {
            Ok(capture) => (capture, 1),
            // Where nothing finer is offered, microseconds are.
            Err(_) => (open(Precision::Micro).map_err(CaptureError::Interface)?, 1000),
        };
        // Until it is in its group a wire gets what is the others' too.
        capture.filter(NOTHING, false).map_err(CaptureError::Interface)?;
        if let Some(group) = group {
            join_fanout_group(&capture, group)?;
        }
        let link = u16::try_from(capture.get_datalink().0).unwrap_or(u16::MAX);
        // In files raw IP is 101, in libpcap's interface 12.
        let link = if link == 12 { 101 } else { link };
        let mut capture = capture.setnonblock().map_err(CaptureError::Interface)?;
        // What came before is not for it.
        while capture.next_packet().is_ok() {}
        let counted = capture.stats().map_err(CaptureError::Interface)?;
        let (name, real) = (name.to_owned(), is_up(name).is_some());
        let (read, given, looked, lost) = (0, 0, Instant::now(), false);
        Ok(Self { capture, link, unit, counted, name, real, is_primary, read, given, looked, lost })
    }

    /// Lets frames come: those that the filter wants.
    pub fn start_capture(&mut self, tap: &CaptureOptions) -> Result<(), CaptureError> {
        let filter = tap.filter.as_deref().unwrap_or_default();
        let set = match vlan_transparent_filter(filter).filter(|_| !filter.is_empty()) {
            // Where frames have no tags to look behind, the expression stands as it is.
            Some(wide) => {
                self.capture.filter(&wide, true).or_else(|_| self.capture.filter(filter, true))
            }
            None => self.capture.filter(filter, true),
        };
        set.map_err(CaptureError::Interface)
    }

    /// Whether the interface that was opened is still there, up or down.
    pub fn is_there(&self) -> bool {
        self.real && is_up(&self.name).is_some() && !self.lost
    }

    /// Whether the system says that the interface is down, or has none of the name.
    pub fn is_down(&self) -> bool {
        self.real && is_up(&self.name) != Some(true)
    }

    /// The link type of its frames, by registry number.
    pub fn link(&self) -> u16 {
        self.link
    }

    /// Fills `batch` with what has come, up to some hundred frames; it stays empty where nothing comes for a while.
    pub fn next(&mut self, batch: &mut Batch) -> Result<(), CaptureError> {
        batch.clear();
        let mut waited = false;
        while batch.frames.len() < BATCH {
            match self.capture.next_packet() {
                Ok(packet) => {
                    let header = packet.header;
                    let (s, fraction) = (Nanos::from(header.ts.tv_sec), header.ts.tv_usec);
                    let frame = Frame {
                        time: s * 1_000_000_000 + Nanos::from(fraction) * self.unit,
                        offset: 0,
                        cap_len: 0,
                        wire_len: header.len.max(header.caplen),
                        link: self.link,
                        interface: 0,
                    };
                    batch.push(frame, packet.data);
                }
                Err(Error::TimeoutExpired) if waited || !batch.frames.is_empty() => break,
                Err(Error::TimeoutExpired) => {
                    // libpcap's own wait has no end on a silent wire.
                    wait(&self.capture);
                    waited = true;
                }
                Err(error) => {
                    self.lost = true;
                    return Err(CaptureError::Interface(error));
                }
            }
        }
        self.read += batch.frames.len() as u64;
        // A wire that is down is silent, and no error.
        if batch.frames.is_empty() && self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            if self.is_down() {
                return Err(CaptureError::Down);
            }
        }
        Ok(())
    }

    /// Frames that the kernel saw, and those that it or the interface dropped, since this was last asked.
    pub fn loss(&mut self) -> Loss {
        let Ok(now) = self.capture.stats() else { return Loss::default() };
        let before = std::mem::replace(&mut self.counted, now);
        // The counters have 32 bits and go round.
        let since = |now: u32, before: u32| u64::from(now.wrapping_sub(before));
        let received = since(now.received, before.received);
        let dropped = since(now.dropped, before.dropped);
        self.given += received.saturating_sub(dropped);
        let missed = if self.is_primary { since(now.if_dropped, before.if_dropped) } else { 0 };
        Loss { received: received + missed, dropped: dropped + missed }
    }

    /// What will not be read any more counts as dropped.
    pub fn final_loss(&mut self) -> Loss {
        let Loss { received, dropped } = self.loss();
        Loss { received, dropped: dropped + self.given.saturating_sub(self.read) }
    }
}

/// Whether an interface is up; none where the system has none of that name.
fn is_up(name: &str) -> Option<bool> {
    let mut all = nix::ifaddrs::getifaddrs().ok()?;
    let found = all.find(|interface| interface.interface_name == name)?;
    Some(found.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP))
}

/// Waits until something came, or a little while.
fn wait(capture: &Capture<Active>) {
    use nix::poll::{PollFd, PollFlags, poll};
    // Whatever is wrong is told by the next read.
    let _ = poll(&mut [PollFd::new(capture.as_fd(), PollFlags::POLLIN)], WAIT_MS);
}

/// An expression that lets pass with a VLAN tag, or two, what it lets pass without: one that speaks of no tag would
/// silently leave tagged frames out. None where it speaks of them itself.
pub fn vlan_transparent_filter(filter: &str) -> Option<String> {
    let mut words = filter.split(|c: char| !c.is_ascii_alphanumeric());
    (!words.any(|word| word == "vlan"))
        .then(|| format!("({filter}) or (vlan and (({filter}) or (vlan and ({filter}))))"))
}

#[cfg(target_os = "linux")]
fn join_fanout_group(capture: &Capture<Active>, group: u16) -> Result<(), CaptureError> {
    use nix::{setsockopt_impl, sockopt_impl};
    sockopt_impl!(
        /// The fan-out group of a packet socket (packet(7)): its number, and how frames are shared out.
        FanoutGroup, SetOnly, libc::SOL_PACKET, libc::PACKET_FANOUT, u32
    );
    // By the flow's hash. Fragments may come to other threads than their first one and meet where tables do; were
    // they joined by the kernel (`PACKET_FANOUT_FLAG_DEFRAG`), those of which one is missing would vanish uncounted.
    const SHARED: u32 = libc::PACKET_FANOUT_HASH;
    nix::sys::socket::setsockopt(capture, FanoutGroup, &(SHARED << 16 | u32::from(group)))
        .map_err(|error| CaptureError::FanOut(error.into()))
}

#[cfg(not(target_os = "linux"))]
fn join_fanout_group(_: &Capture<Active>, _: u16) -> Result<(), CaptureError> {
    Err(CaptureError::FanOut(std::io::ErrorKind::Unsupported.into()))
}

/// An interface of this host.
#[derive(Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What the system says of it.
    pub description: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it is up, and connected as far as known.
    pub up: bool,
    /// Whether frames can be taken from it; if not, why.
    pub usable: Result<(), CaptureError>,
}

/// The interfaces that frames could be taken from.
pub fn interfaces() -> Result<Vec<Interface>, CaptureError> {
    let tap = CaptureOptions { snaplen: 128, buffer: 1 << 20, promiscuous: false, filter: None };
    let devices = Device::list().map_err(CaptureError::Filter)?;
    let interface = |device: Device| Interface {
        up: device.flags.if_flags.contains(IfFlags::UP | IfFlags::RUNNING),
        usable: LiveCapture::open(&device.name, &tap, None, true).map(drop),
        description: device.desc.unwrap_or_default(),
        addresses: device.addresses.into_iter().map(|a| a.addr).collect(),
        name: device.name,
    };
    Ok(devices.into_iter().map(interface).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Filter;

    #[test]
    fn a_filter_lets_tagged_frames_pass_too() {
        let tagged = |tags: usize| {
            let mut frame = vec![2; 12];
            (0..tags).for_each(|_| frame.extend([0x81, 0, 0, 7]));
            frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0xc3, 0x50, 1, 0xbb]);
            frame.resize(80, 0);
            frame
        };
        for (expression, passes) in [("port 443", true), ("udp", false), ("net 10.0.0.0/8", true)] {
            let mut filter =
                Filter::new(&vlan_transparent_filter(expression).expect("no tag is named"))
                    .unwrap();
            for tags in 0..3 {
                assert_eq!(filter.passes(1, &tagged(tags), 80), passes, "{expression} {tags}");
            }
        }
        assert_eq!(vlan_transparent_filter("vlan 7 and port 443"), None);
    }
}

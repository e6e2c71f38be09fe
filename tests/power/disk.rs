//! What a loss of power leaves: a data folder made anew from the shadow that the shim kept, which
//! holds what was synced and nothing else; or that and a random part of what was not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use rand::Rng;
use rand::rngs::StdRng;

use crate::support::built;

/// What of the unsynced reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// Nothing.
    Lost,
    /// Any part of it: sectors and lengths of files, names in folders.
    Torn,
}

/// A folder with `data` in it, and beside it the shadow.
pub struct Disk {
    root: PathBuf,
    shadow: PathBuf,
}

/// An entry of a folder, as it was when the folder was synced.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    folder: bool,
    /// Names the shadow.
    key: String,
}

type Listing = BTreeMap<String, Entry>;

/// Counts of what happened, to be shown.
#[derive(Default, Debug)]
pub struct Left {
    pub files: usize,
    /// Files that were synced in part.
    pub torn: usize,
    /// Names that were synced and are no longer, or not yet.
    pub names: usize,
    /// The engine's newest log.
    pub log: u64,
}

impl Disk {
    /// A disk that holds `data`, all of it synced; or none yet.
    pub fn new(root: &Path) -> Self {
        let disk = Self { root: root.to_owned(), shadow: root.join("shadow") };
        disk.settle();
        disk
    }

    /// What a process needs so that the shim watches it.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("LD_PRELOAD", shim().to_owned()),
            ("POWER_ROOT", self.root.clone()),
            ("POWER_SHADOW", self.shadow.clone()),
        ]
    }

    /// The folder that `data` is in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The data folder.
    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Puts in the place of `data` what is left of it. The process has to be dead.
    pub fn lose_power(&self, unsynced: Unsynced, random: &mut StdRng) -> Left {
        assert!(self.shadow.join("at-work").exists(), "the shim was not loaded");
        let mut now = BTreeMap::new();
        if self.data().exists() {
            index(&self.root, &mut now);
        }
        let lost = self.root.join("lost");
        let mut rebuild =
            Rebuild { shadow: &self.shadow, now, unsynced, random, left: Left::default() };
        let after = self.root.join("after");
        fs::create_dir(&after).unwrap();
        rebuild.folder(&key(&self.root), &after);
        let left = rebuild.left;
        if self.data().exists() {
            fs::rename(self.data(), &lost).unwrap();
        }
        if after.join("data").exists() {
            fs::rename(after.join("data"), self.data()).unwrap();
        }
        fs::remove_dir_all(&after).unwrap();
        fs::remove_dir_all(&lost).ok();
        self.settle();
        left
    }

    /// All that is there counts as synced: what a start finds is on the disk.
    fn settle(&self) {
        fs::remove_dir_all(&self.shadow).ok();
        fs::create_dir(&self.shadow).unwrap();
        self.settle_folder(&self.root);
    }

    fn settle_folder(&self, folder: &Path) {
        let listing = list(folder, folder == self.root);
        let mut text = String::new();
        for (name, Entry { folder, key }) in &listing {
            text += &format!("{} {key} {name}\n", if *folder { 'd' } else { 'f' });
        }
        fs::write(self.shadow.join(format!("{}.list", key(folder))), text).unwrap();
        for (name, entry) in listing {
            let path = folder.join(name);
            if entry.folder {
                self.settle_folder(&path);
            } else {
                let pages = pages(&File::open(&path).unwrap());
                write(&self.shadow.join(entry.key), &pages);
            }
        }
    }
}

/// The name of the shadow of a file or folder; as the shim makes it.
fn key(path: &Path) -> String {
    let metadata = fs::symlink_metadata(path).unwrap();
    let device = metadata.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = u64::from(major) << 32 | u64::from(minor);
    format!("{device:x}-{:x}-{:x}", metadata.ino(), born(&metadata))
}

/// Nanoseconds; 0 where the file system does not keep it.
fn born(metadata: &Metadata) -> u128 {
    let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    born.map_or(0, |since| since.as_nanos())
}

/// What a folder lists now; of the root `data` alone.
fn list(folder: &Path, root: bool) -> Listing {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let entry = |name: String| {
        let path = folder.join(&name);
        (name, Entry { folder: path.is_dir(), key: key(&path) })
    };
    names.filter(|name| !root || name == "data").map(entry).collect()
}

/// Where each file and folder is now, by its key.
fn index(root: &Path, found: &mut BTreeMap<String, PathBuf>) {
    fn walk(folder: &Path, root: bool, found: &mut BTreeMap<String, PathBuf>) {
        found.insert(key(folder), folder.to_owned());
        for (name, entry) in list(folder, root) {
            let path = folder.join(name);
            if entry.folder {
                walk(&path, false, found);
            } else {
                found.insert(entry.key, path);
            }
        }
    }
    walk(root, true, found);
}

struct Rebuild<'a> {
    shadow: &'a Path,
    now: BTreeMap<String, PathBuf>,
    unsynced: Unsynced,
    random: &'a mut StdRng,
    left: Left,
}

impl Rebuild<'_> {
    fn folder(&mut self, key: &str, to: &Path) {
        for (name, entry) in self.listing(key) {
            let log = name.strip_suffix(".jnl").and_then(|number| number.parse().ok());
            self.left.log = self.left.log.max(log.unwrap_or(0));
            let path = to.join(name);
            if entry.folder {
                fs::create_dir(&path).unwrap();
                self.folder(&entry.key, &path);
            } else {
                self.file(&entry.key, &path);
            }
        }
    }

    /// What was synced of a folder; torn, each name may also be as it is now.
    fn listing(&mut self, key: &str) -> Listing {
        let text = fs::read_to_string(self.shadow.join(format!("{key}.list"))).unwrap_or_default();
        let parsed = text.lines().map(|line| {
            let mut parts = line.splitn(3, ' ');
            let mut next = || parts.next().unwrap().to_owned();
            let (folder, key, name) = (next() == "d", next(), next());
            (name, Entry { folder, key })
        });
        let mut synced: Listing = parsed.collect();
        let Some(path) = self.now.get(key) else { return synced };
        let now = list(path, path.join("shadow") == self.shadow);
        let names: BTreeSet<String> = synced.keys().chain(now.keys()).cloned().collect();
        for name in names {
            if synced.get(&name) == now.get(&name) {
                continue;
            }
            self.left.names += 1;
            if self.unsynced == Unsynced::Torn && self.random.random() {
                match now.get(&name) {
                    Some(entry) => drop(synced.insert(name, entry.clone())),
                    None => drop(synced.remove(&name)),
                }
            }
        }
        synced
    }

    fn file(&mut self, key: &str, to: &Path) {
        let synced = File::open(self.shadow.join(key)).map(|file| pages(&file));
        let mut left = synced.unwrap_or_default();
        if let Some(path) = self.now.get(key) {
            let now = pages(&File::open(path).unwrap());
            if now != left {
                self.left.torn += 1;
                if self.unsynced == Unsynced::Torn {
                    left = torn(left, now, self.random);
                }
            }
        }
        self.left.files += 1;
        write(to, &left);
    }
}

const PAGE: usize = 4096;

/// A file: its length, and its pages that are not all zeros.
#[derive(Default, PartialEq, Eq)]
struct Pages {
    length: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

fn pages(file: &File) -> Pages {
    let length = file.metadata().unwrap().len();
    let mut bytes = vec![0; 256 * PAGE];
    let mut pages = BTreeMap::new();
    let mut at = 0;
    while at < length {
        // Holes are skipped: the engine's log is made with its length, and mostly empty.
        let Ok(data) = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) else { break };
        at = data / PAGE as u64 * PAGE as u64;
        let got = file.read_at(&mut bytes, at).unwrap();
        for (page, bytes) in bytes[..got].chunks(PAGE).enumerate() {
            if bytes != &[0; PAGE][..bytes.len()] {
                let mut page_bytes = bytes.to_vec();
                page_bytes.resize(PAGE, 0);
                pages.insert(at / PAGE as u64 + page as u64, page_bytes);
            }
        }
        at += got.max(1) as u64;
    }
    Pages { length, pages }
}

fn write(path: &Path, Pages { length, pages }: &Pages) {
    let file = File::create(path).unwrap();
    for (page, bytes) in pages {
        file.write_all_at(bytes, page * PAGE as u64).unwrap();
    }
    file.set_len(*length).unwrap();
}

/// A file between what was synced and what it is now.
fn torn(synced: Pages, now: Pages, random: &mut StdRng) -> Pages {
    let numbers: BTreeSet<u64> = synced.pages.keys().chain(now.pages.keys()).copied().collect();
    let differ = |page: &u64| synced.pages.get(page) != now.pages.get(page);
    let differ: Vec<u64> = numbers.into_iter().filter(differ).collect();
    // Everything, the first pages, any pages, any sectors, all but one sector. Nothing is what the
    // other way does.
    let how = random.random_range(0..6);
    let but = (random.random_range(0..=differ.len()), random.random_range(0..PAGE / 512));
    let first = random.random_range(0..=differ.len());
    let sector = if how >= 3 { 512 } else { PAGE };
    let mut left = Pages { length: synced.length, pages: synced.pages };
    for (at, page) in differ.into_iter().enumerate() {
        let zeros = vec![0; PAGE];
        let new = now.pages.get(&page).unwrap_or(&zeros);
        let old = left.pages.entry(page).or_insert_with(|| zeros.clone());
        for (part, (old, new)) in old.chunks_mut(sector).zip(new.chunks(sector)).enumerate() {
            let reached = match how {
                0 => true,
                1 => at < first,
                4.. => (at, part) != but,
                _ => random.random(),
            };
            if reached {
                old.copy_from_slice(new);
            }
        }
    }
    if how == 0 || random.random() {
        left.length = now.length;
    }
    left
}

/// The shim, built for this run.
fn shim() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built("tests/power/shim.c", "power-shim"))
}

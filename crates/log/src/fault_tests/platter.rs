//! What of a few files would be left after a power cut: contents and names that were synced, and of the rest anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// SplitMix64: the same numbers for the same seed.
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// A change of a file that was not synced.
#[derive(Debug)]
pub(super) enum Change {
    Write { at: u64, bytes: Vec<u8> },
    Length(u64),
}

/// A change of a folder that was not synced.
#[derive(Debug)]
enum Renaming {
    Put(PathBuf, usize),
    Gone(PathBuf),
    Moved(PathBuf, PathBuf, usize),
}

impl Renaming {
    fn path(&self) -> &Path {
        match self {
            Self::Put(path, _) | Self::Gone(path) | Self::Moved(_, path, _) => path,
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Put(path, file) => drop(names.insert(path.clone(), *file)),
            Self::Gone(path) => drop(names.remove(path)),
            Self::Moved(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

/// How much of what was not synced survives.
#[derive(Debug, Clone, Copy)]
enum Mercy {
    Nothing,
    Everything,
    /// The first so many changes of each file and of the names.
    Prefix,
    /// Any changes, each whole.
    Subset,
    /// Any sectors of any changes.
    Sectors,
}

#[derive(Debug, Default)]
struct Content {
    synced: Vec<u8>,
    pending: Vec<Change>,
}

fn apply(content: &mut Vec<u8>, change: &Change, random: &mut Random, torn: bool) {
    match change {
        Change::Length(length) => content.resize(*length as usize, 0),
        Change::Write { at, bytes } => {
            let mut at = *at as usize;
            let end = at + bytes.len();
            // The length may be on disk before what should stand there is: zeros then.
            if content.len() < end && (!torn || random.coin()) {
                content.resize(end, 0);
            }
            let mut left = bytes.as_slice();
            while !left.is_empty() {
                let (sector, rest) = left.split_at(left.len().min(SECTOR_BYTES - at % SECTOR_BYTES));
                if !torn || random.coin() {
                    content.resize(content.len().max(at + sector.len()), 0);
                    content[at..at + sector.len()].copy_from_slice(sector);
                }
                at += sector.len();
                left = rest;
            }
        }
    }
}

/// Files and names, on disk and on their way to it. Paths are the caller's; a file is a number.
#[derive(Debug)]
pub(super) struct Platter {
    root: PathBuf,
    random: Random,
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    renamings: Vec<Renaming>,
    synced_folders: BTreeSet<PathBuf>,
}

impl Platter {
    /// A disk with whatever stands in `root`, all of it synced.
    pub(super) fn new(root: &Path, seed: u64) -> Self {
        let mut platter = Self {
            root: root.to_owned(),
            random: Random(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            renamings: Vec::new(),
            synced_folders: BTreeSet::new(),
        };
        for path in tracked(root) {
            platter.files.push(Content { synced: fs::read(&path).expect("read"), pending: Vec::new() });
            platter.synced_names.insert(path, platter.files.len() - 1);
        }
        platter.names = platter.synced_names.clone();
        platter.synced_folders.extend(platter.names.keys().filter_map(|path| path.parent()).map(Path::to_owned));
        platter
    }

    pub(super) fn file(&self, path: &Path) -> usize {
        self.names[path]
    }

    /// A file is created, or emptied.
    pub(super) fn create(&mut self, path: &Path) -> usize {
        if let Some(file) = self.names.get(path).copied() {
            self.change(file, Change::Length(0));
            return file;
        }
        let file = self.files.len();
        self.files.push(Content::default());
        self.rename(Renaming::Put(path.to_owned(), file));
        file
    }

    pub(super) fn moved(&mut self, from: &Path, to: &Path) {
        let file = self.names[from];
        self.rename(Renaming::Moved(from.to_owned(), to.to_owned(), file));
    }

    pub(super) fn removed(&mut self, path: &Path) {
        self.rename(Renaming::Gone(path.to_owned()));
    }

    fn rename(&mut self, renaming: Renaming) {
        renaming.apply(&mut self.names);
        self.renamings.push(renaming);
    }

    pub(super) fn change(&mut self, file: usize, change: Change) {
        self.files[file].pending.push(change);
    }

    pub(super) fn sync(&mut self, file: usize) {
        let Content { synced, pending } = &mut self.files[file];
        pending.drain(..).for_each(|change| apply(synced, &change, &mut self.random, false));
    }

    /// Linux calls the pages of a failed sync clean: what is not on disk by now never comes there by another sync.
    pub(super) fn sync_failed(&mut self, file: usize) {
        let Content { synced, pending } = &mut self.files[file];
        pending.drain(..).for_each(|change| apply(synced, &change, &mut self.random, true));
    }

    pub(super) fn sync_folder(&mut self, folder: &Path) {
        let (done, left): (Vec<_>, Vec<_>) =
            self.renamings.drain(..).partition(|renaming| renaming.path().parent() == Some(folder));
        self.renamings = left;
        done.iter().for_each(|renaming| renaming.apply(&mut self.synced_names));
        let children =
            self.names.keys().filter_map(|path| path.parent()).filter(|child| child.parent() == Some(folder));
        self.synced_folders.extend(children.map(Path::to_owned));
    }

    /// What a power cut at this moment leaves.
    pub(super) fn power_cut(&mut self) -> Image {
        let mercies = [Mercy::Nothing, Mercy::Everything, Mercy::Prefix, Mercy::Subset, Mercy::Sectors];
        let mercy = mercies[self.random.below(mercies.len())];
        let random = &mut self.random;
        let survivors = |count: usize, random: &mut Random| -> Vec<bool> {
            let prefix = random.below(count + 1);
            let survives = |n: usize, random: &mut Random| match mercy {
                Mercy::Nothing => false,
                Mercy::Everything => true,
                Mercy::Prefix => n < prefix,
                Mercy::Subset | Mercy::Sectors => random.coin(),
            };
            (0..count).map(|n| survives(n, random)).collect()
        };
        let mut names = self.synced_names.clone();
        let kept = survivors(self.renamings.len(), random);
        self.renamings.iter().zip(kept).filter(|(_, kept)| *kept).for_each(|(renaming, _)| renaming.apply(&mut names));
        let mut files = BTreeMap::new();
        for (path, file) in names {
            let folder = path.parent().expect("folder");
            let folder_kept = folder == self.root || self.synced_folders.contains(folder);
            if !folder_kept && !matches!(mercy, Mercy::Everything) {
                continue;
            }
            let Content { synced, pending } = &self.files[file];
            let mut content = synced.clone();
            let kept = survivors(pending.len(), random);
            for (change, _) in pending.iter().zip(kept).filter(|(_, kept)| *kept) {
                apply(&mut content, change, random, matches!(mercy, Mercy::Sectors));
            }
            files.insert(path, content);
        }
        // The index is derived; it may be there or not.
        Image { root: self.root.clone(), files, index: random.coin(), mercy }
    }
}

/// What is left after a power cut.
#[derive(Debug)]
pub(super) struct Image {
    root: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
    index: bool,
    mercy: Mercy,
}

impl Image {
    /// Makes the folder so; says how much survived.
    pub(super) fn restore(self) -> String {
        tracked(&self.root).iter().for_each(|path| fs::remove_file(path).expect("remove"));
        for (path, content) in &self.files {
            fs::write(path, content).expect("write");
        }
        let chunks = self.root.join(crate::open::CHUNKS_DIR);
        if chunks.is_dir() && fs::read_dir(&chunks).expect("list").next().is_none() {
            fs::remove_dir(&chunks).expect("remove");
        }
        let index = self.root.join(crate::open::INDEX_DIR);
        if !self.index && index.is_dir() {
            fs::remove_dir_all(&index).expect("remove");
        }
        let sizes: Vec<_> = self.files.iter().map(|(path, bytes)| (path.file_name(), bytes.len())).collect();
        format!("{:?} of what was not synced survived, index kept: {}; {sizes:?}", self.mercy, self.index)
    }
}

/// Chunks and checkpoints in `root`.
fn tracked(root: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let Ok(items) = fs::read_dir(folder) else { return Vec::new() };
        items.map(|item| item.expect("item").path()).filter(|path| path.is_file()).collect()
    };
    let mut paths = list(&root.join(crate::open::CHUNKS_DIR));
    paths.extend(list(root).into_iter().filter(|path| path.file_name() != Some(crate::open::LOCK_FILE.as_ref())));
    paths
}

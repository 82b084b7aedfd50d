//! What becomes of an index that is not believed any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most damaged indexes kept aside.
const MAX_KEPT_ASIDE: usize = 2;

/// The file beside an index that says: it failed, do not believe it.
pub(crate) fn doubtful_mark(index: &Path) -> PathBuf {
    index.with_extension("doubtful")
}

/// Moves a doubtful index out of the way, keeping the last few for whoever wants to know what happened to it.
pub(crate) fn move_aside(index: &Path) -> io::Result<Option<PathBuf>> {
    if !index.try_exists()? {
        return Ok(None);
    }
    let parent = index.parent().unwrap_or(Path::new("."));
    let name = index.file_name().and_then(|name| name.to_str()).unwrap_or("index");
    let prefix = format!("{name}.damaged-");
    let mut kept = Vec::new();
    for item in fs::read_dir(parent)? {
        let item = item?;
        if let Some(number) = item.file_name().to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<u64>().ok())
        {
            kept.push((number, item.path()));
        }
    }
    kept.sort();
    let next = kept.last().map_or(1, |(number, _)| number + 1);
    let aside = parent.join(format!("{prefix}{next}"));
    fs::rename(index, &aside)?;
    let surplus = (kept.len() + 1).saturating_sub(MAX_KEPT_ASIDE);
    for (_, old) in kept.into_iter().take(surplus) {
        if old.is_dir() { fs::remove_dir_all(&old)? } else { fs::remove_file(&old)? }
    }
    Ok(Some(aside))
}

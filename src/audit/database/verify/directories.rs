//! Compares a directory with what was shipped of its chain.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use crate::audit::chain::HexHash;
use crate::audit::{chain, listing, repair};
use crate::system::in_background;

use super::{Batch, CentralFault, CentralFaultKind, Verification};
use crate::audit::database::chain_end::number;
use crate::audit::database::connection::Connection;
use crate::audit::database::error::DatabaseError;
use crate::audit::database::journal_reader::JournalReader;

/// A record's number and hash.
type HashedLine = (u64, HexHash);

impl Verification {
    /// Whether a directory of this chain holds what was shipped of it.
    pub(super) async fn compare(
        &mut self,
        connection: &Connection,
        directory: &Path,
    ) -> Result<(), DatabaseError> {
        let (path, chain) = (directory.to_owned(), self.report.chain.chain);
        let (ends, last) = (self.ends.clone(), self.end.seq);
        let differs = in_background(move || {
            let segments = listing::list(&path)?.segments;
            let name = repair::last_record(&path, &segments)?.and_then(|last| last.chain);
            if name != Some(chain) {
                return Ok(None);
            }
            differing(&path, &ends, last).map(Some)
        });
        match differs.await {
            Some(Ok(None)) => {}
            Some(Ok(Some(None))) => self.report.directories.push(directory.to_owned()),
            Some(Ok(Some(Some(lines)))) => {
                let seq = self.first_difference(connection, &lines).await?;
                let kind = CentralFaultKind::DirectoryDiffers(directory.to_owned());
                self.report.fault = Some(CentralFault { seq, kind });
            }
            Some(Err(_)) | None => return Err(DatabaseError::Directory),
        }
        Ok(())
    }

    async fn first_difference(
        &self,
        connection: &Connection,
        lines: &[HashedLine],
    ) -> Result<u64, DatabaseError> {
        let last = lines.last().map_or(0, |(seq, _)| *seq);
        let select = "SELECT first, last, hash, lines, bytes FROM audit.batch WHERE chain = $1 AND last = $2";
        let row = connection
            .query_opt(select, &[&self.report.chain.id, &number(last)])
            .await?;
        let batch = row.as_ref().map(Batch::read).transpose()?.flatten();
        let ours: HashMap<u64, HexHash> = batch
            .iter()
            .flat_map(|batch| batch.lines.lines())
            .filter_map(|line| chain::read(line.as_bytes()))
            .map(|link| (link.seq, link.hash))
            .collect();
        let mut lines = lines.iter();
        let first = lines.find(|(seq, hash)| ours.get(seq).is_some_and(|it| it != hash));
        Ok(first.map_or(last, |(seq, _)| *seq))
    }
}

/// The lines of the first batch that a directory ends otherwise; `None` where it holds what was shipped.
fn differing(
    directory: &Path,
    ends: &HashMap<u64, HexHash>,
    last: u64,
) -> io::Result<Option<Vec<HashedLine>>> {
    let mut reader = JournalReader::new(directory, 0);
    let (mut block, mut since) = (Vec::new(), Vec::new());
    while reader.next(&mut block, last)? {
        for line in block.split(|byte| *byte == b'\n') {
            let Some(link) = chain::read(line) else {
                continue;
            };
            since.push((link.seq, link.hash));
            match ends.get(&link.seq) {
                Some(hash) if *hash != link.hash || !link.genuine => return Ok(Some(since)),
                Some(_) => since.clear(),
                None => {}
            }
        }
    }
    // It has less than was shipped.
    let is_short = since.last().is_some_and(|(seq, _)| *seq < last);
    Ok(is_short.then_some(since))
}

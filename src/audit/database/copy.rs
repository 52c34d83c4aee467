//! Rows in PostgreSQL's binary format of COPY.

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::Transaction;
use uuid::Uuid;

use crate::atlas::Timestamp;

use super::error::DatabaseError;

/// Rows of one table, written one value after the other.
pub(super) struct Rows(Vec<u8>);

impl Rows {
    pub(super) fn new() -> Self {
        let mut rows = SIGNATURE.to_vec();
        // Neither flags nor an extension of the header.
        rows.extend_from_slice(&[0; 8]);
        Self(rows)
    }

    /// Begins a row of so many values.
    pub(super) fn begin(&mut self, values: usize) {
        let values = i16::try_from(values).expect("a table has few columns");
        self.0.extend_from_slice(&values.to_be_bytes());
    }

    pub(super) fn int2(&mut self, value: Option<i16>) {
        self.value(value.map(i16::to_be_bytes));
    }

    pub(super) fn int4(&mut self, value: Option<i32>) {
        self.value(value.map(i32::to_be_bytes));
    }

    pub(super) fn int8(&mut self, value: Option<i64>) {
        self.value(value.map(i64::to_be_bytes));
    }

    pub(super) fn uuid(&mut self, value: Option<Uuid>) {
        self.value(value.map(Uuid::into_bytes));
    }

    pub(super) fn time(&mut self, value: Timestamp) {
        self.int8(Some(value.micros() - EPOCH_MICROS));
    }

    /// The day of this time in UTC.
    pub(super) fn day(&mut self, of: Timestamp) {
        let days = (of.micros() - EPOCH_MICROS).div_euclid(DAY_MICROS);
        self.int4(i32::try_from(days).ok());
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.value(Some(value));
    }

    /// No text of PostgreSQL holds NUL.
    pub(super) fn text(&mut self, value: Option<&str>) {
        match value {
            Some(text) if text.contains('\0') => self.value(Some(without_nul(text))),
            text => self.value(text),
        }
    }

    fn value(&mut self, value: Option<impl AsRef<[u8]>>) {
        let Some(value) = value else {
            self.0.extend_from_slice(&(-1_i32).to_be_bytes());
            return;
        };
        let bytes = value.as_ref();
        let length =
            i32::try_from(bytes.len()).expect("a value is of a line, or of a block of them");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// How many bytes they take so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, with what ends them.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&(-1_i16).to_be_bytes());
        self.0
    }

    /// Sends them; there is no way back but that of the transaction.
    pub(super) async fn send(
        self,
        transaction: &Transaction<'_>,
        statement: &str,
    ) -> Result<(), DatabaseError> {
        let sink = transaction.copy_in::<_, Bytes>(statement).await?;
        let mut sink = std::pin::pin!(sink);
        sink.send(Bytes::from(self.into_bytes())).await?;
        sink.as_mut().finish().await?;
        Ok(())
    }
}

/// As it is searched for in the database.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// 2000-01-01, from where PostgreSQL counts.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;
const DAY_MICROS: i64 = 86_400_000_000;

//! The compressed forms of one list: all of it, and pages of it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::encoding::{Encoding, Text};
use super::splice::Packed;

#[derive(Debug, Default)]
pub(super) struct CompressedForms {
    brotli: CompressedForm,
    gzip: CompressedForm,
    zstd: CompressedForm,
    /// Pages that were asked for, each in the place that its number says.
    pages: [ArcSwapOption<CompressedPage>; PLACES],
}

/// A list in one encoding.
#[derive(Debug, Default)]
pub(super) struct CompressedForm {
    /// Made for the first caller that takes it, while others wait; `None` where it is no smaller.
    packed: OnceCell<Option<Packed>>,
    /// The last usual answer.
    pub(super) usual: ArcSwapOption<Put>,
    /// Others that were asked for, each in the place that its head's length says.
    others: [ArcSwapOption<Put>; PLACES],
}

/// A part of a list in one encoding.
#[derive(Debug)]
struct CompressedPage {
    encoding: Encoding,
    put: Put,
}

/// A compressed list, or a part of it, between a head and a tail.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) head: Vec<u8>,
    tail: Vec<u8>,
    pub(super) text: Text,
}

impl CompressedForms {
    pub(super) fn of(&self, encoding: Encoding) -> &CompressedForm {
        match encoding {
            Encoding::Brotli => &self.brotli,
            Encoding::Gzip => &self.gzip,
            Encoding::Zstd => &self.zstd,
        }
    }

    pub(super) fn page(
        &self,
        encoding: Encoding,
        number: u32,
        (head, tail): (&[u8], &[u8]),
        make: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Option<Text> {
        let place = usize::try_from(number).ok()? % PLACES;
        let place = self.pages.get(place)?;
        if let Some(page) = &*place.load()
            && page.encoding == encoding
            && page.put.head == head
            && page.put.tail == tail
        {
            return Some(page.put.text.clone());
        }
        let text = Text::Whole(Bytes::from(make()?));
        let put = Put {
            head: head.to_vec(),
            tail: tail.to_vec(),
            text: text.clone(),
        };
        place.store(Some(Arc::new(CompressedPage { encoding, put })));
        Some(text)
    }
}

impl CompressedForm {
    /// Whether the list has been compressed, or does not shrink.
    pub(super) fn is_made(&self) -> bool {
        self.packed.initialized()
    }

    /// Compresses `list` on a blocking thread, or waits for the call that does. Says whether this one has.
    pub(super) async fn make(&self, encoding: Encoding, list: Bytes) -> bool {
        let mut is_ours = false;
        let ours = &mut is_ours;
        let making = move || async move {
            *ours = true;
            let made = spawn_blocking(move || Packed::pack(encoding, &list));
            // A panic in there is no reason not to answer.
            made.await.ok().flatten()
        };
        self.packed.get_or_init(making).await;
        is_ours
    }

    /// The list between `head` and `tail`; `None` where it has not been compressed, or does not shrink.
    pub(super) fn put(&self, head: &[u8], tail: &[u8]) -> Option<Arc<Put>> {
        let packed = self.packed.get()?.as_ref()?;
        let place = self.others.get(head.len() % PLACES)?;
        if let Some(last) = &*place.load()
            && last.head == head
            && last.tail == tail
        {
            return Some(Arc::clone(last));
        }
        let put = Arc::new(Put {
            head: head.to_vec(),
            tail: tail.to_vec(),
            text: packed.splice(head, tail),
        });
        place.store(Some(Arc::clone(&put)));
        Some(put)
    }
}

/// How many compressed answers are kept besides the usual one, which share the list's own blocks; and how
/// many pages, which do not, but are parts of it.
const PLACES: usize = 4;

//! The bytes of a simulated file, in pages that clones share until one of them writes.

use std::sync::Arc;

use bytes::BytesMut;

/// Bytes shared or copied together.
pub(super) const PAGE: usize = 4096;

/// Pages by number; a page that is not there is all zeroes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content {
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
    pub len: u64,
}

impl Content {
    fn page(&self, number: u64) -> Option<&[u8; PAGE]> {
        self.pages.get(number as usize)?.as_deref()
    }

    pub fn page_mut(&mut self, number: u64) -> &mut [u8; PAGE] {
        let number = number as usize;
        if self.pages.len() <= number {
            self.pages.resize(number + 1, None);
        }
        Arc::make_mut(self.pages[number].get_or_insert_with(|| Arc::new([0; PAGE])))
    }

    /// This page is that of `other` from now on, until one of them writes.
    pub fn share_page(&mut self, other: &Content, number: u64) {
        let number = number as usize;
        if self.pages.len() <= number {
            self.pages.resize(number + 1, None);
        }
        self.pages[number] = other.pages.get(number).cloned().flatten();
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let position = at + done as u64;
            let within = (position % PAGE as u64) as usize;
            let here = (PAGE - within).min(bytes.len() - done);
            let number = position / PAGE as u64;
            let piece = &bytes[done..done + here];
            // Zeroes over a hole stay a hole.
            if self.page(number).is_some() || piece.iter().any(|byte| *byte != 0) {
                self.page_mut(number)[within..within + here].copy_from_slice(piece);
            }
            done += here;
        }
        self.len = self.len.max(at + bytes.len() as u64);
    }

    pub fn read(&self, at: u64, len: usize) -> BytesMut {
        let len = self.len.saturating_sub(at).min(len as u64) as usize;
        let mut out = BytesMut::zeroed(len);
        let mut done = 0;
        while done < len {
            let position = at + done as u64;
            let within = (position % PAGE as u64) as usize;
            let here = (PAGE - within).min(len - done);
            if let Some(page) = self.page(position / PAGE as u64) {
                out[done..done + here].copy_from_slice(&page[within..within + here]);
            }
            done += here;
        }
        out
    }

    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            let kept = len.div_ceil(PAGE as u64);
            self.pages.truncate(kept as usize);
            let within = (len % PAGE as u64) as usize;
            if within > 0 && self.page(kept - 1).is_some() {
                self.page_mut(kept - 1)[within..].fill(0);
            }
        }
        self.len = len;
    }
}

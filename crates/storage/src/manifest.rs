//! What a snapshot consists of: a group's state at one index, and the files that hold its log.
//!
//! A manifest is made behind exactly one entry (machine, membership and segment position agree
//! there); its files are pinned by the view it was made from. Bytes: magic, version, body length,
//! body CRC-32C, body; little endian. Invariants: a manifest that decodes is consistent: its
//! segments follow one another from the log start to its index, and its terms cover them.

use bytes::{BufMut, Bytes, BytesMut};
use model::{GroupId, limits};

use crate::codec::{Fields, put_bytes, put_count};
use crate::disk::ReadAt;
use crate::error::StorageError;
use crate::segment::{SegmentList, SegmentPosition};

const MAGIC: &[u8; 8] = b"GLMANIF\0";
const VERSION: u32 = 1;

/// A group at one index. The index is `position.last_index`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub group: GroupId,
    pub term: u64,
    /// The node's encodings, opaque here.
    pub conf_state: Bytes,
    pub machine: Bytes,
    pub position: SegmentPosition,
    /// CRC-32C of each file, in the order of [`Manifest::files`].
    pub sums: Vec<u32>,
}

/// One file of a manifest: its name in the group's directory, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    pub name: String,
    pub bytes: u64,
    pub crc: u32,
}

impl Manifest {
    pub fn index(&self) -> u64 {
        self.position.last_index
    }

    /// Each segment's batches, then its sidecar; empty files are left out.
    pub fn files(&self) -> Vec<ManifestFile> {
        let named = self.position.file_names().into_iter().zip(&self.sums);
        named.map(|((name, bytes), crc)| ManifestFile { name, bytes, crc: *crc }).collect()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.position.file_names().iter().map(|(_, bytes)| bytes).sum()
    }

    /// (first index, term), rising, from the log start on.
    pub fn term_starts(&self) -> Vec<(u64, u64)> {
        self.position.terms.iter().map(|start| (start.first_index, start.term)).collect()
    }

    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u64_le(self.group.0);
        body.put_u64_le(self.term);
        put_bytes(&mut body, &self.conf_state);
        put_bytes(&mut body, &self.machine);
        self.position.encode(&mut body);
        put_count(&mut body, self.sums.len());
        self.sums.iter().for_each(|sum| body.put_u32_le(*sum));
        let mut out = BytesMut::with_capacity(24 + body.len());
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u64_le(body.len() as u64);
        out.put_u32_le(crc32c::crc32c(&body));
        out.put_slice(&body);
        out.freeze()
    }

    /// Reads [`Manifest::encode`]; `None` for anything else, lies about itself included.
    pub fn decode(bytes: Bytes) -> Option<Manifest> {
        let mut fields = Fields::new(bytes);
        let known = fields.take(MAGIC.len())?.as_ref() == MAGIC && fields.u32()? == VERSION;
        let (len, crc) = (fields.u64()?, fields.u32()?);
        let body = fields.take(usize::try_from(len).ok()?)?;
        if !known || !fields.is_empty() || crc32c::crc32c(&body) != crc {
            return None;
        }
        let mut fields = Fields::new(body);
        let mut manifest = Manifest {
            group: GroupId(fields.u64()?),
            term: fields.u64()?,
            conf_state: fields.bytes()?,
            machine: fields.bytes()?,
            position: SegmentPosition::decode(&mut fields)?,
            sums: Vec::new(),
        };
        for _ in 0..fields.count(4)? {
            manifest.sums.push(fields.u32()?);
        }
        (fields.is_empty() && manifest.is_consistent()).then_some(manifest)
    }

    fn is_consistent(&self) -> bool {
        let position = &self.position;
        let Some(first) = position.start_index.checked_add(1) else { return false };
        let mut next = (first, None);
        for mark in &position.segments {
            let follows = mark.base_index == next.0 && next.1.is_none_or(|o| o == mark.base_offset);
            if !follows || mark.last_index < mark.base_index || mark.next_offset < mark.base_offset
            {
                return false;
            }
            let Some(index) = mark.last_index.checked_add(1) else { return false };
            next = (index, Some(mark.next_offset));
        }
        let whole = Some(next.0) == position.last_index.checked_add(1)
            && next.1.is_none_or(|offset| offset == position.next_offset)
            && position.log_start_offset <= position.next_offset;
        let rise = position
            .terms
            .windows(2)
            .all(|two| two[0].first_index < two[1].first_index && two[0].term < two[1].term);
        let covers = position
            .terms
            .first()
            .is_some_and(|first| first.first_index <= position.start_index.max(1))
            && position.terms.last().is_some_and(|last| {
                last.term == self.term && last.first_index <= position.last_index
            });
        let files = position.file_names();
        let sized = files.iter().try_fold(0u64, |sum, (_, bytes)| sum.checked_add(*bytes));
        position.last_index > 0
            && position.home == 0
            && whole
            && rise
            && covers
            && sized.is_some()
            && files.len() == self.sums.len()
            && files.len() <= limits::MANIFEST_FILES_MAX
    }
}

impl SegmentList {
    /// CRC-32C of every file of this view, up to where the view reaches. Reads all of it.
    pub fn checksums(&self, reader: &dyn ReadAt) -> Result<Vec<u32>, StorageError> {
        (0..self.files().len()).map(|file| self.checksum(reader, file)).collect()
    }

    fn checksum(&self, reader: &dyn ReadAt, file: usize) -> Result<u32, StorageError> {
        let (mut at, mut crc) = (0, 0);
        loop {
            let bytes = self.read_file(reader, file, at, limits::TRANSFER_READ_BYTES)?;
            if bytes.is_empty() {
                return Ok(crc);
            }
            at += bytes.len() as u64;
            crc = crc32c::crc32c_append(crc, &bytes);
        }
    }

    /// Up to `len` bytes of a file of the manifest that was made from this view; fewer at its end.
    pub fn read_file(
        &self,
        reader: &dyn ReadAt,
        file: usize,
        at: u64,
        len: usize,
    ) -> Result<Bytes, StorageError> {
        let files = self.files();
        let Some((handle, bytes)) = files.get(file) else {
            return Err(StorageError::AboveEnd { wanted: file as u64, end: files.len() as u64 });
        };
        let len = len.min(usize::try_from(bytes.saturating_sub(at)).unwrap_or(usize::MAX));
        let read = reader.read_at(handle, at, len)?;
        match read.len() == len {
            true => Ok(read),
            false => {
                let path = handle.path().clone();
                Err(StorageError::Damaged { path, what: "the file is shorter than its view" })
            }
        }
    }
}

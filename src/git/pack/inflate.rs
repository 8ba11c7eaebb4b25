//! Inflation of zlib streams: whole streams with libdeflate, large ones piece by piece with zlib.

use std::ptr::NonNull;

use flate2::{Decompress, FlushDecompress, Status};
use libdeflate_sys::{
    libdeflate_alloc_decompressor, libdeflate_decompressor, libdeflate_free_decompressor,
    libdeflate_result_LIBDEFLATE_SUCCESS, libdeflate_zlib_decompress_ex,
};

/// Highest compression ratio of DEFLATE (258 bytes from two bits). A larger declared size is refused before memory is
/// allocated.
const MAX_RATIO: u64 = 1032;
/// Bytes of the buffer of [`inflate_streaming`].
const STREAM_BUFFER_BYTES: usize = 64 * 1024;

/// Inflater for whole zlib streams of known size. Holds about 11 KiB of tables.
///
/// The safe wrapper of libdeflate does not report the number of input bytes consumed, which in a pack determines the
/// start of the next entry; hence the direct calls.
pub(crate) struct Inflater {
    raw: NonNull<libdeflate_decompressor>,
}

// SAFETY: the decompressor is plain memory without thread affinity, and all use goes through `&mut`.
unsafe impl Send for Inflater {}

impl Inflater {
    pub(crate) fn new() -> Result<Self, &'static str> {
        // SAFETY: no arguments; null (out of memory) is handled.
        let raw = unsafe { libdeflate_alloc_decompressor() };
        NonNull::new(raw).map(|raw| Inflater { raw }).ok_or("no memory for inflating")
    }

    /// Inflates the stream at the beginning of `input` into `out`, replaces the content of `out`, and returns the
    /// number of input bytes consumed. The stream must inflate to exactly `size` bytes; its checksum is verified.
    pub(crate) fn inflate(&mut self, input: &[u8], size: u64, out: &mut Vec<u8>) -> Result<usize, &'static str> {
        let size = check_size(input, size)?;
        out.clear();
        out.try_reserve(size).map_err(|_| "no memory for the object")?;
        let mut taken = 0;
        let mut made = 0;
        // SAFETY: `input` is readable for its length and `out` has at least `size` bytes of capacity that
        // nothing else refers to; libdeflate stays within both lengths.
        let result = unsafe {
            libdeflate_zlib_decompress_ex(
                self.raw.as_ptr(),
                input.as_ptr().cast(),
                input.len(),
                out.as_mut_ptr().cast(),
                size,
                &mut taken,
                &mut made,
            )
        };
        if result != libdeflate_result_LIBDEFLATE_SUCCESS {
            return Err("its compressed data is damaged or does not have the declared size");
        }
        if made != size {
            return Err("it is shorter than it says");
        }
        // SAFETY: the call succeeded, so the first `made == size` bytes are initialised.
        unsafe { out.set_len(size) };
        Ok(taken)
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: allocated by `libdeflate_alloc_decompressor`, freed once.
        unsafe { libdeflate_free_decompressor(self.raw.as_ptr()) }
    }
}

/// Refuses a size that the input cannot inflate to.
pub(crate) fn check_size(input: &[u8], size: u64) -> Result<usize, &'static str> {
    if size / MAX_RATIO > input.len() as u64 {
        return Err("its declared size is larger than its compressed data can be");
    }
    usize::try_from(size).map_err(|_| "it is larger than the address space")
}

/// Inflates the stream at the beginning of `input` piece by piece in constant memory, and returns the number of input
/// bytes consumed. The stream must inflate to exactly `size` bytes; its checksum is verified.
///
/// `each` is called with every piece in order; an error from `each` ends the inflation.
pub(crate) fn inflate_streaming<E>(
    input: &[u8],
    size: u64,
    bad: impl Fn(&'static str) -> E,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<usize, E> {
    let mut inflate = Decompress::new(true);
    let mut buffer = vec![0; STREAM_BUFFER_BYTES];
    loop {
        let taken = inflate.total_in();
        let made = inflate.total_out();
        // `total_in` never exceeds the input's length, which is a usize.
        let rest = &input[taken as usize..];
        let status = inflate
            .decompress(rest, &mut buffer, FlushDecompress::None)
            .map_err(|_| bad("its compressed data is damaged"))?;
        let new = (inflate.total_out() - made) as usize;
        if inflate.total_out() > size {
            return Err(bad("it is longer than it says"));
        }
        each(&buffer[..new])?;
        match status {
            Status::StreamEnd if inflate.total_out() == size => return Ok(inflate.total_in() as usize),
            Status::StreamEnd => return Err(bad("it is shorter than it says")),
            _ if new == 0 && inflate.total_in() == taken => return Err(bad("its compressed data is cut off")),
            _ => {}
        }
    }
}

/// Inflates at least the first `most` bytes of a zlib stream, or all if it is shorter, and replaces the content of
/// `out`. Nothing is verified.
pub(crate) fn inflate_front(input: &[u8], most: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut inflate = Decompress::new(true);
    out.clear();
    out.reserve_exact(most);
    loop {
        let taken = inflate.total_in();
        let made = out.len();
        let rest = &input[taken as usize..];
        let status = inflate.decompress_vec(rest, out, FlushDecompress::None);
        match status.map_err(|_| "its compressed data is damaged")? {
            Status::StreamEnd => return Ok(()),
            _ if out.len() >= most => return Ok(()),
            _ if inflate.total_in() == taken && out.len() == made => return Err("its compressed data is cut off"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn deflate(data: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(data).unwrap();
        out.finish().unwrap()
    }

    fn streamed(input: &[u8], size: u64) -> Result<(usize, Vec<u8>), &'static str> {
        let mut all = Vec::new();
        let taken = inflate_streaming(
            input,
            size,
            |e| e,
            |piece| {
                all.extend_from_slice(piece);
                Ok(())
            },
        )?;
        Ok((taken, all))
    }

    #[test]
    fn both_ways_agree_on_content_and_on_where_the_stream_ends() {
        for size in [0, 1, 100, 70_000, 300_000] {
            let data: Vec<u8> = (0..size).map(|i: u32| (i.wrapping_mul(i) >> 7) as u8).collect();
            let stream = deflate(&data);
            let input = [&stream[..], b"the next entry"].concat();
            let mut out = vec![9; 3];
            let taken = Inflater::new().unwrap().inflate(&input, size.into(), &mut out).unwrap();
            assert_eq!((taken, &out), (stream.len(), &data));
            assert_eq!(streamed(&input, size.into()).unwrap(), (stream.len(), data));
        }
    }

    #[test]
    fn the_front_is_what_the_whole_begins_with() {
        let data: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let stream = deflate(&data);
        let mut out = vec![9; 3];
        inflate_front(&stream, 20, &mut out).unwrap();
        assert!(out.len() >= 20 && data.starts_with(&out));
        inflate_front(&deflate(b"short"), 20, &mut out).unwrap();
        assert_eq!(out, b"short");
        assert!(inflate_front(&stream[..4], 20, &mut out).is_err());
        assert!(inflate_front(b"no zlib", 20, &mut out).is_err());
    }

    #[test]
    fn wrong_sizes_and_damage_are_errors_in_both_ways() {
        let data = vec![7; 1000];
        let stream = deflate(&data);
        let mut out = Vec::new();
        let mut inflater = Inflater::new().unwrap();
        for (input, size) in [(&stream[..], 999), (&stream, 1001), (&stream[..stream.len() - 1], 1000), (&[], 0)] {
            assert!(inflater.inflate(input, size, &mut out).is_err());
            assert!(streamed(input, size).is_err());
        }
        for at in 0..stream.len() {
            let mut flipped = stream.clone();
            flipped[at] ^= 1;
            let whole = inflater.inflate(&flipped, 1000, &mut out).map(|taken| (taken, out.clone()));
            assert!(whole.is_err() || whole == Ok((stream.len(), data.clone())), "byte {at}");
        }
    }

    #[test]
    fn an_absurd_size_is_refused_before_memory_is_taken() {
        let mut out = Vec::new();
        assert!(Inflater::new().unwrap().inflate(&deflate(b"x"), 1 << 40, &mut out).is_err());
        assert_eq!(out.capacity(), 0);
    }
}

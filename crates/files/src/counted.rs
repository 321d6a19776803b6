//! A writer that counts what passes through it.

use std::fs::File;
use std::io::{self, BufWriter, Write};

pub(crate) struct Counted<'a> {
    out: &'a mut BufWriter<File>,
    pub(crate) n_bytes: u64,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(out: &'a mut BufWriter<File>) -> Counted<'a> {
        Counted { out, n_bytes: 0 }
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.n_bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

//! Block formats: one file each, with scalar encode, decode and dot. This code is the truth; every fast kernel
//! is tested against it.

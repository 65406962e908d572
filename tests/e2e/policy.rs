//! One policy for every protocol: the same destination gets the same verdict and reason (SPEC P3 to
//! P5, P9, P10).

pub(crate) mod doors;
mod jail_doors;
mod lookups;
mod report;

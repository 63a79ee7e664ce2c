//! The manifests in `data/` that the binary carries.

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../data/", $name, ".toml")))),*]
    };
}

/// The manifests that come with TraceGym, so that the binary works in any folder.
pub const EMBEDDED: &[(&str, &str)] = embedded![
    "simulator",
    "simulator-other",
    "alibaba-v2022",
    "alibaba-v2021",
    "alibaba-v2022-graphs",
    "alibaba-v2022-structures",
    "alibaba-v2022-sample",
    "alibaba-v2021-sample",
    "nezha-onlineboutique",
    "nezha-onlineboutique-faults",
    "nezha-trainticket",
    "nezha-trainticket-faults",
];

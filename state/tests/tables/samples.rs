//! OpenVZ's sample configurations, number for number, and that they keep its rules.

#![expect(clippy::disallowed_methods, reason = "a test reads its example")]

use std::collections::BTreeMap;

use vzd_schema::{Set, parse};
use vzd_state::lower::lower;
use vzd_state::subsystem::beancounters::{Counter, UNLIMITED};

/// Barrier and limit.
type Pair = (u64, u64);

/// `KEY="barrier:limit"` of ve-basic.conf-sample and ve-light.conf-sample, in OpenVZ's units.
const CLASSIC: [(&str, Pair, Pair); 20] = [
    ("kmemsize", (14_372_700, 14_790_164), (1_740_800, 1_847_296)),
    ("lockedpages", (2048, 2048), (4, 4)),
    ("privvmpages", (65_536, 69_632), (7680, 8448)),
    ("shmpages", (21_504, 21_504), (1152, 1152)),
    ("numproc", (240, 240), (40, 40)),
    ("physpages", (0, UNLIMITED), (0, UNLIMITED)),
    ("vmguarpages", (33_792, UNLIMITED), (1725, UNLIMITED)),
    ("oomguarpages", (26_112, UNLIMITED), (1725, UNLIMITED)),
    ("numtcpsock", (360, 360), (40, 40)),
    ("numflock", (188, 206), (50, 60)),
    ("numpty", (16, 16), (4, 4)),
    ("numsiginfo", (256, 256), (256, 256)),
    ("tcpsndbuf", (1_720_320, 2_703_360), (159_744, 262_144)),
    ("tcprcvbuf", (1_720_320, 2_703_360), (159_744, 262_144)),
    ("othersockbuf", (1_126_080, 2_097_152), (135_168, 237_568)),
    ("dgramrcvbuf", (262_144, 262_144), (135_168, 196_608)),
    ("numothersock", (360, 360), (40, 40)),
    ("dcachesize", (3_409_920, 3_624_960), (196_608, 202_752)),
    ("numfile", (9312, 9312), (512, 512)),
    ("numiptent", (128, 128), (16, 16)),
];

/// What a VE with nothing but a profile of the example is bounded by, and its share of CPU.
fn bounds_of(profile: &str) -> (BTreeMap<String, (u64, u64)>, String) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/openvz-samples.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let more =
        format!("---\napiVersion: vzd/v1\nkind: VE\nmetadata: {{name: x}}\nspec: {{profile: {profile}}}\n");
    let parsed = parse("samples.yaml", format!("{text}{more}").as_bytes());
    assert!(parsed.diagnostics.is_empty(), "{:#?}", parsed.diagnostics);
    let set = Set::new(&parsed.documents);
    let document = parsed.documents.last().unwrap();
    let want = lower(document, &set.resolve(document).unwrap(), &|_| None).unwrap();
    let units = want.cgroup.limits.cpu.cpuunits.unwrap().to_string();
    let bound = |counter| {
        want.beancounters.bounds.get(&counter).map_or((UNLIMITED, UNLIMITED), |is| (is.barrier, is.limit))
    };
    (Counter::ALL.map(|(counter, name, _)| (name.to_owned(), bound(counter))).into(), units)
}

#[test]
fn classic_samples_are_openvzs() {
    let ((basic, basic_units), (light, light_units)) = (bounds_of("basic"), bounds_of("light"));
    for (name, in_basic, in_light) in CLASSIC {
        assert_eq!((basic[name], light[name]), (in_basic, in_light), "{name}");
    }
    assert_eq!((basic_units.as_str(), light_units.as_str()), ("1000", "250"));
}

#[test]
fn vswap_samples_are_openvzs() {
    let m = |megabytes: u64| megabytes * 256;
    for (profile, ram) in
        [("vswap-256m", 256), ("vswap-512m", 512), ("vswap-1g", 1024), ("vswap-2g", 2048), ("vswap-4g", 4096)]
    {
        let (bounds, units) = bounds_of(profile);
        assert_eq!((bounds["physpages"], bounds["swappages"]), ((0, m(ram)), (0, m(2 * ram))), "{profile}");
        assert_eq!(bounds["kmemsize"], (UNLIMITED, UNLIMITED));
        assert_eq!(units, "1000");
    }
}

//! Promise: the binary has the guards that make a memory fault in its C (librdkafka, OpenSSL, jemalloc) a crash instead
//! of a way in: it lies at a random address, its tables of functions are read-only, nothing is both writable and
//! executable, and every C library was compiled with canaries and checked copies. And what can be seen of safety in the
//! source alone is there: no `unsafe`, comparisons in constant time, crates by their checksums.
//!
//! It looks at the binary of the tests, whose C and whose linking are those of a release; `RECORDING_BRIDGE_BINARY`
//! names another. What it cannot see is `-fstack-clash-protection`, which leaves no name behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::elf;
use object::read::archive::ArchiveFile;
use object::read::elf::{Dyn as _, ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Object as _, ObjectSymbol};

/// What the dynamic linker may load. Everything else is inside, and so in the list of what the binary is made of.
const LIBRARIES: [&str; 8] = [
    "libc.so.6",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
];

/// The C in the binary, by its archive, and whether it calls functions that FORTIFY replaces.
const ARCHIVES: [(&str, bool); 5] =
    [("librdkafka.a", true), ("libcrypto.a", true), ("libssl.a", true), ("libz.a", true), ("libjemalloc_pic.a", false)];

const REBUILD: &str = "was CFLAGS set, or .cargo/config.toml not read? Then: cargo clean -p openssl-sys -p rdkafka-sys -p \
                       libz-sys -p tikv-jemalloc-sys";

fn binary() -> PathBuf {
    std::env::var_os("RECORDING_BRIDGE_BINARY").map_or(env!("CARGO_BIN_EXE_recording-bridge").into(), PathBuf::from)
}

/// What the linker left undone. Empty is good.
fn faults_of_linking(bytes: &[u8]) -> BTreeSet<&'static str> {
    let file = ElfFile64::<object::Endianness>::parse(bytes).expect("an ELF file of 64 bits");
    let endian = file.endian();
    let mut faults = BTreeSet::new();
    let mut fault = |bad: bool, words| bad.then(|| faults.insert(words));

    let kind = |wanted| file.elf_program_headers().iter().filter(move |header| header.p_type(endian) == wanted);
    let runs = |flags: u32| flags & elf::PF_X != 0;
    fault(!kind(elf::PT_GNU_STACK).any(|_| true), "does not say whether the stack is executable");
    fault(kind(elf::PT_GNU_STACK).any(|stack| runs(stack.p_flags(endian))), "executable stack");
    let both = |flags: u32| runs(flags) && flags & elf::PF_W != 0;
    fault(kind(elf::PT_LOAD).any(|load| both(load.p_flags(endian))), "writable and executable segment");
    fault(!kind(elf::PT_GNU_RELRO).any(|_| true), "no RELRO");

    let entries = kind(elf::PT_DYNAMIC).filter_map(|header| header.dynamic(endian, bytes).expect("entries")).flatten();
    let entries: Vec<(u64, u64)> = entries.map(|entry| (entry.d_tag(endian), entry.d_val(endian))).collect();
    let has = |tag: u32| entries.iter().any(|(found, _)| *found == u64::from(tag));
    let flag = |tag: u32, bit: u32| {
        entries.iter().any(|(found, value)| *found == u64::from(tag) && value & u64::from(bit) != 0)
    };
    let kind_of_file = file.elf_header().e_type(endian);
    fault(kind_of_file != elf::ET_DYN || !flag(elf::DT_FLAGS_1, elf::DF_1_PIE), "not position-independent");
    fault(!flag(elf::DT_FLAGS, elf::DF_BIND_NOW) && !flag(elf::DT_FLAGS_1, elf::DF_1_NOW), "functions are bound late");
    fault(has(elf::DT_RPATH) || has(elf::DT_RUNPATH), "a path of libraries of its own");
    fault(has(elf::DT_TEXTREL) || flag(elf::DT_FLAGS, elf::DF_TEXTREL), "code is written to while it is loaded");
    faults
}

/// Guards that the C in an object calls.
#[derive(Debug, Default, PartialEq)]
struct Guards {
    canary: bool,
    checked_copies: bool,
}

impl Guards {
    fn add(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            self.canary |= name == "__stack_chk_fail";
            self.checked_copies |= name.starts_with("__") && name.ends_with("_chk");
        }
    }
}

/// The names that an object takes from elsewhere.
fn undefined(bytes: &[u8], dynamic: bool) -> Vec<String> {
    let file = ElfFile64::<object::Endianness>::parse(bytes).expect("an ELF file of 64 bits");
    let symbols = if dynamic { file.dynamic_symbols() } else { file.symbols() };
    symbols.filter(ObjectSymbol::is_undefined).filter_map(|symbol| Some(symbol.name().ok()?.to_owned())).collect()
}

/// The archive of that name that was built last, below the folders of build scripts.
fn archive(name: &str) -> PathBuf {
    let build = Path::new(env!("CARGO_BIN_EXE_recording-bridge")).parent().expect("a folder").join("build");
    let places = ["out/src", "out/lib", "out", "out/openssl-build/install/lib"];
    let crates =
        fs::read_dir(&build).expect("the folder of build scripts").map(|entry| entry.expect("an entry").path());
    let found =
        crates.flat_map(|folder| places.map(|place| folder.join(place).join(name))).filter(|path| path.exists());
    found
        .max_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).expect("a time"))
        .unwrap_or_else(|| panic!("no {name} below {}", build.display()))
}

#[test]
fn the_binary_is_linked_with_every_guard() {
    let bytes = fs::read(binary()).expect("the binary");
    assert_eq!(faults_of_linking(&bytes), BTreeSet::new());
}

#[test]
fn the_binary_loads_nothing_but_the_libraries_of_the_system() {
    let bytes = fs::read(binary()).expect("the binary");
    let file = ElfFile64::<object::Endianness>::parse(&*bytes).expect("an ELF file");
    let (endian, mut needed) = (file.endian(), Vec::new());
    for header in file.elf_program_headers() {
        for entry in header.dynamic(endian, &*bytes).expect("entries").into_iter().flatten() {
            if entry.d_tag(endian) == u64::from(elf::DT_NEEDED) {
                let name = entry.string(endian, file.elf_dynamic_symbol_table().strings()).expect("a name");
                needed.push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    assert!(needed.iter().any(|name| name == "libc.so.6"), "{needed:?}");
    let strange: Vec<_> = needed.iter().filter(|name| !LIBRARIES.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn every_c_library_was_compiled_with_canaries_and_checked_copies() {
    let mut guards = Guards::default();
    guards.add(undefined(&fs::read(binary()).expect("the binary"), true).into_iter().map(|name| {
        // Some linkers leave the version in the name.
        name.split('@').next().unwrap_or_default().to_owned()
    }));
    assert_eq!(guards, Guards { canary: true, checked_copies: true }, "the binary; {REBUILD}");
    for (name, copies) in ARCHIVES {
        let path = archive(name);
        let bytes = fs::read(&path).expect("an archive");
        let archive = ArchiveFile::parse(&*bytes).expect("an archive");
        let mut guards = Guards::default();
        for member in archive.members() {
            // A copy, because members lie at odd places.
            let object = member.expect("a member").data(&*bytes).expect("its bytes").to_vec();
            guards.add(undefined(&object, false));
        }
        assert!(guards.canary, "{}: no canary; {REBUILD}", path.display());
        assert!(guards.checked_copies || !copies, "{}: no checked copy; {REBUILD}", path.display());
    }
}

#[test]
fn each_missing_guard_of_a_binary_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("program.c");
    let section = "#ifdef BOTH\n__asm__(\".section .both,\\\"awx\\\"\\n.byte 0\\n.text\");\n#endif\n";
    fs::write(&source, format!("{section}int main(void) {{ return 0; }}\n")).expect("a program");
    let good = ["-pie", "-fPIE", "-Wl,-z,relro,-z,now,-z,noexecstack"];
    let faults = |more: &[&str]| {
        let program = folder.path().join("program");
        let output = Command::new("cc").args(good).args(more).arg("-o").arg(&program).arg(&source).output();
        let output = output.expect("a C compiler");
        assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
        faults_of_linking(&fs::read(&program).expect("a program"))
    };
    assert_eq!(faults(&[]), BTreeSet::new());
    for (option, fault) in [
        ("-no-pie", "not position-independent"),
        ("-Wl,-z,execstack", "executable stack"),
        ("-Wl,-z,norelro", "no RELRO"),
        ("-Wl,-z,lazy", "functions are bound late"),
        ("-Wl,-rpath,/tmp", "a path of libraries of its own"),
        ("-DBOTH", "writable and executable segment"),
    ] {
        assert!(faults(&[option]).contains(fault), "{option}: {:?}", faults(&[option]));
    }
}

#[test]
fn a_number_that_overflows_panics_in_a_release_as_well() {
    let manifest = include_str!("../../Cargo.toml");
    let release =
        manifest.split("[profile.release]\n").nth(1).expect("the profile").split("\n[").next().expect("its end");
    assert!(release.lines().any(|line| line == "overflow-checks = true"), "{release}");
}

#[test]
fn no_code_of_ours_is_unsafe() {
    let manifest = include_str!("../../Cargo.toml");
    let lints = manifest.split("[lints.rust]\n").nth(1).expect("lints").split("\n[").next().expect("their end");
    assert!(lints.lines().any(|line| line == "unsafe_code = \"forbid\""), "{lints}");
}

/// Time cannot be measured on a shared machine so that the result means anything. So this holds the source to it.
#[test]
fn signatures_are_compared_in_constant_time() {
    let source = include_str!("../../src/callback/auth.rs");
    let signer = source.split("\nfn signer(").nth(1).expect("the function").split("\n}\n").next().expect("its end");
    assert!(signer.contains(".ct_eq(sign.as_bytes())).collect();"), "each key is tried:\n{signer}");
    for early in ["== sign", "sign ==", ".eq(", ".any(", ".find(", ".position(", ".take_while("] {
        assert!(!signer.contains(early), "{early} ends at the first difference:\n{signer}");
    }
}

#[test]
fn every_crate_comes_from_crates_io_with_a_checksum() {
    let mut crates = 0;
    for package in include_str!("../../Cargo.lock").split("[[package]]\n").skip(1) {
        if package.starts_with("name = \"recording-bridge\"\n") {
            continue;
        }
        let source = "\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
        assert!(package.contains(source) && package.contains("\nchecksum = \""), "{package}");
        crates += 1;
    }
    assert!(crates > 100, "{crates} crates");
}

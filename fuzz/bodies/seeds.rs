//! Inputs to begin with, made of the cases that the tests have anyway.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The first inputs of a target, given the folder of the crate.
pub fn of(target: &str, root: &Path) -> Vec<Vec<u8>> {
    let data = root.join("tests/data");
    match target {
        "callback" => callback(&data),
        "config" => config(root),
        "intake" => intake(&data),
        "spool_frame" => spool_frame(&data),
        "spool_segment" => spool_segment(),
        _ => Vec::new(),
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The bodies of a file of cases, as text.
fn bodies(path: &Path) -> Vec<String> {
    let cases = text(path);
    let bodies = cases.lines().map(|line| serde_json::from_str::<Value>(line).expect("a case is JSON")["body"].take());
    bodies.map(|body| body.as_str().map_or(body.to_string(), str::to_owned)).collect()
}

fn callback(data: &Path) -> Vec<Vec<u8>> {
    const AROUND: [&str; 8] =
        ["", "a=b", "token=\"x", "mix=layer:b;session_id:7", "url=h%253F", "{\"a\":", "Bearer x; ", "%"];
    let files = ["normalise", "authenticate", "unusable"].map(|name| data.join(format!("callbacks/{name}.jsonl")));
    let bodies: Vec<String> = files.iter().flat_map(|file| bodies(file)).collect();
    let mut seeds = Vec::new();
    for (number, body) in (0_u8..).zip(&bodies) {
        // The harness signs and plants; what stands there twice would only be a duplicate.
        let body = body.replace(",SIGNED", "").replace("SIGNED", "");
        let around = AROUND[usize::from(number) % AROUND.len()];
        for plants in [0, 0x7F, 0xFF] {
            seeds.push([&[plants, number], around.as_bytes(), b"\n", body.as_bytes()].concat());
        }
    }
    let least = "{\"event_type\":100,\"appid\":1300000000,\"stream_id\":\"s\",\"file_id\":\"f\"}";
    for (plant, around) in (0..8).flat_map(|plant| AROUND.map(|around| (plant, around))) {
        seeds.push([&[1 << plant, 0], around.as_bytes(), b"\n", least.as_bytes()].concat());
    }
    seeds
}

fn config(root: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("tests/data/config/faulty"))
        .expect("the folder is there")
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    files.extend([root.join("config.yaml"), root.join("tests/data/config/every-key.yaml")]);
    let whole = files.iter().map(|path| [&[0], text(path).as_bytes()].concat());
    let planted =
        (1..64).map(|line: u8| [&[line], ["", "5s ", "\"", "!x ", "&a "][usize::from(line) % 5].as_bytes()].concat());
    whole.chain(planted).collect()
}

fn intake(data: &Path) -> Vec<Vec<u8>> {
    let signature = "\"t\":1700000600,\"sign\":\"SIGNSIGNSIGNSIGNSIGNSIGNSIGNSIGN\"";
    let facts =
        "\"event_type\":100,\"appid\":1300000000,\"app\":\"push.example.com\",\"stream_id\":\"s\",\"file_id\":\"f\"";
    let body = format!("{{{facts},{signature}}}");
    let mut requests = Vec::new();
    for case in text(&data.join("http/heads.txt")).split("\n## ").skip(1) {
        let Some((_, request)) = case.split_once('\n') else { continue };
        let request = request.split("\n=> ").next().unwrap_or_default();
        requests.push(expanded(&request.replace('\n', "\r\n"), &body));
    }
    let post = |body: &str| {
        let head =
            format!("POST /callbacks/recording HTTP/1.1\r\nHost: bridge\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body.as_bytes()].concat()
    };
    for sent in bodies(&data.join("callbacks/normalise.jsonl")) {
        let members = sent.trim_start_matches('{');
        requests.push(post(&format!("{{{signature}{}{members}", if members == "}" { "" } else { "," })));
    }
    for path in ["/healthz", "/callbacks/recording"] {
        requests.push(format!("GET {path} HTTP/1.1\r\nHost: bridge\r\n\r\n").into_bytes());
        requests.push(format!("HEAD {path} HTTP/1.1\r\nHost: bridge\r\n\r\n").into_bytes());
    }
    requests.push([post(&body), post(&body), post(&format!("{{\"event_type\":332,{signature}}}"))].concat());
    requests.push(post("{\"event_type\":100}"));
    requests.push(post(&format!("{{\"event_type\":100,{signature}}}")));
    let chunks: String = body
        .as_bytes()
        .chunks(40)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
        .collect();
    requests.push(
        format!(
            "POST /callbacks/recording HTTP/1.1\r\nHost: bridge\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        )
        .into_bytes(),
    );
    (0_u8..)
        .zip(requests)
        .map(|(number, request)| [&[number % 4, number.wrapping_mul(7)], &request[..]].concat())
        .collect()
}

/// A request as the tests write them: see `tests/data/http/heads.txt`.
fn expanded(request: &str, body: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (place, part) in request.split('%').enumerate() {
        let replaced = match part {
            "body" => body.as_bytes().to_vec(),
            "length" => body.len().to_string().into_bytes(),
            part => match (part.split_once(':'), u8::from_str_radix(part, 16)) {
                (Some((letter, count)), _) => letter.repeat(count.parse::<usize>().unwrap_or(1).min(2048)).into_bytes(),
                (None, Ok(byte)) => vec![byte],
                (None, Err(_)) => Vec::new(),
            },
        };
        bytes.extend(if place % 2 == 0 { part.as_bytes().to_vec() } else { replaced });
    }
    bytes
}

fn spool_frame(data: &Path) -> Vec<Vec<u8>> {
    let digits = text(&data.join("spool/frame.hex")).replace(char::is_whitespace, "");
    let pairs = digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16));
    let frame: Vec<u8> = pairs.map(|byte| byte.expect("hexadecimal digits")).collect();
    // The fields behind the checksum make a frame of their own, and text the parts of a message.
    let fields = frame[12..].to_vec();
    vec![frame, fields, b"stream\n{\"schema\":1}\nce_id\nx\nname\nvalue".to_vec(), vec![0; 20]]
}

fn spool_segment() -> Vec<Vec<u8>> {
    // Some frames in some segments, and every deed done to each of the first files.
    let mut seeds = vec![vec![20, 2, 100, 0], vec![20, 2, 100, 9], vec![0, 0, 0, 0]];
    for kind in 0..8_u8 {
        for file in 0..3 {
            let place = 130 + u16::from(kind) * 37;
            let [low, high] = place.to_le_bytes();
            seeds.push(
                [
                    &[20, kind, 90, file * 4][..],
                    &[kind, file, low, high, 40, 3, 1, 0],
                    &[0, file + 1, 20, 0, 0, 1, 0, 0],
                ]
                .concat(),
            );
        }
    }
    seeds
}

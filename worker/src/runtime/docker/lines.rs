//! What a container printed, with the time the engine noted.

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use skep_proto::v1::LogStream;

use super::client::Client;
use crate::runtime::{Line, LogOptions, Result};

/// The lines of `container` as `options` ask for them.
pub async fn lines(
    client: &std::sync::Arc<Client>,
    container: &str,
    options: LogOptions,
) -> Result<BoxStream<'static, Result<Line>>> {
    let docker = client.docker().await?;
    let since_s = i32::try_from(options.since_ns / 1_000_000_000).unwrap_or(i32::MAX);
    let asked = LogsOptionsBuilder::default()
        .follow(options.follow)
        .stdout(options.stdout)
        .stderr(options.stderr)
        .since(since_s)
        .timestamps(true)
        .tail(
            &options
                .tail
                .map_or_else(|| "all".to_owned(), |n| n.to_string()),
        )
        .build();
    let (client, container) = (client.clone(), container.to_owned());
    let stream = async_lines(docker, container, asked).filter_map(move |output| {
        let line = match output {
            // The engine knows whole seconds only.
            Ok(output) => Some(Ok(line(output))).filter(|l| match l {
                Ok(line) => line.at_ns == 0 || line.at_ns >= options.since_ns,
                Err(_) => true,
            }),
            Err(error) => Some(Err(client.error(error))),
        };
        std::future::ready(line)
    });
    Ok(stream.boxed())
}

/// Owns what the engine's stream borrows.
fn async_lines(
    docker: bollard::Docker,
    container: String,
    options: bollard::query_parameters::LogsOptions,
) -> impl futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send + 'static {
    docker.logs(&container, Some(options)).boxed()
}

fn line(output: LogOutput) -> Line {
    let (stream, message) = match output {
        LogOutput::StdErr { message } => (LogStream::Stderr, message),
        LogOutput::StdOut { message }
        | LogOutput::StdIn { message }
        | LogOutput::Console { message } => (LogStream::Stdout, message),
    };
    let (at_ns, data) = split_time(message);
    Line {
        stream,
        at_ns,
        data,
    }
}

/// `2026-01-02T03:04:05.123456789Z text` → its time and `text`.
fn split_time(message: Bytes) -> (i64, Bytes) {
    let Some(space) = message.iter().take(40).position(|b| *b == b' ') else {
        return (0, message);
    };
    let at = message
        .get(..space)
        .and_then(|b| std::str::from_utf8(b).ok())
        .and_then(parse_time);
    match at {
        Some(at_ns) => (at_ns, message.slice(space + 1..)),
        None => (0, message),
    }
}

/// RFC 3339 with up to nine decimals, in UTC or with an offset.
pub fn parse_time(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, offset_s) = match time.strip_suffix('Z') {
        Some(clock) => (clock, 0),
        None => {
            let sign = time.rfind(['+', '-'])?;
            let (clock, offset) = time.split_at_checked(sign)?;
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            (
                clock,
                if offset.starts_with('-') {
                    -seconds
                } else {
                    seconds
                },
            )
        }
    };
    let (whole, decimals) = clock.split_once('.').unwrap_or((clock, ""));
    let mut whole = whole.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (
        whole.next()?.ok()?,
        whole.next()?.ok()?,
        whole.next()?.ok()?,
    );
    let nanos: i64 = format!("{decimals:0<9}").get(..9)?.parse().ok()?;
    // Days since 1970 in the Gregorian calendar, with the year starting in March.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
            - 1
            - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset_s;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_times_are_read_to_the_nanosecond() {
        for (text, ns) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:01.5Z", 1_500_000_000),
            ("2024-02-29T12:00:00.000000001Z", 1_709_208_000_000_000_001),
            (
                "2000-01-01T01:00:00.123456789+01:00",
                946_684_800_123_456_789,
            ),
        ] {
            assert_eq!(parse_time(text), Some(ns), "{text}");
        }
        for text in ["", "yesterday", "2024-01-01", "2024-01-01T00:00Z"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn a_line_loses_its_time_and_keeps_the_rest() {
        let (at, data) = split_time(Bytes::from_static(b"1970-01-01T00:00:01Z a b\n"));
        assert_eq!((at, data.as_ref()), (1_000_000_000, b"a b\n".as_ref()));
        let (at, data) = split_time(Bytes::from_static(b"no time here\n"));
        assert_eq!((at, data.as_ref()), (0, b"no time here\n".as_ref()));
    }
}

//! Messages of D-Bus: calls with texts as arguments in, bytes out; bytes of answers in, their words and numbers out. By the D-Bus
//! specification, section "Message Protocol", in the byte order of this machine, which is that of the bus on it.

/// Byte order, as the first byte of a message says it.
const ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };
const CALL: u8 = 1;
const ANSWER: u8 = 2;
const ERROR: u8 = 3;
/// What precedes the fields of the header, their length being its last part.
pub(super) const FIXED: usize = 16;
/// More than any answer of systemd has: ten thousand units take 3 MB.
const LARGEST: usize = 16 << 20;

/// A call of a method, all of whose arguments are texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'c> {
    pub(super) destination: Option<&'c str>,
    pub(super) path: &'c str,
    pub(super) interface: &'c str,
    pub(super) member: &'c str,
    pub(super) arguments: [&'c str; 2],
    /// How many of the arguments there are.
    pub(super) count: usize,
}

/// Appends a call to `out`.
pub(super) fn write(call: &Call<'_>, serial: u32, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    let arguments = &call.arguments[..call.count];
    for argument in arguments {
        text(&mut body, argument);
    }
    // No flags, version 1.
    let mut message = vec![ORDER, CALL, 0, 1];
    number(&mut message, body.len());
    message.extend(serial.to_ne_bytes());
    let signature = &"ss"[..arguments.len()];
    let mut fields = Vec::new();
    let texts = [(1, b'o', call.path), (2, b's', call.interface), (3, b's', call.member)];
    for (code, kind, value) in texts.into_iter().chain(call.destination.map(|name| (6, b's', name))) {
        pad(&mut fields, 8);
        fields.extend([code, 1, kind, 0]);
        text(&mut fields, value);
    }
    if !signature.is_empty() {
        pad(&mut fields, 8);
        fields.extend([8, 1, b'g', 0, signature.len() as u8]);
        fields.extend(signature.as_bytes());
        fields.push(0);
    }
    // The fields begin at a multiple of 8, so that they are aligned by themselves.
    number(&mut message, fields.len());
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    out.extend(message);
}

fn text(out: &mut Vec<u8>, value: &str) {
    pad(out, 4);
    number(out, value.len());
    out.extend(value.as_bytes());
    out.push(0);
}

fn number(out: &mut Vec<u8>, value: usize) {
    out.extend(u32::try_from(value).unwrap_or(u32::MAX).to_ne_bytes());
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

/// A message that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Came<'b> {
    /// The call that it answers; absent for a signal, which is none.
    pub(super) answers: Option<u32>,
    /// The body and its signature, or the name of an error.
    pub(super) content: Result<(&'b str, &'b [u8]), &'b str>,
}

/// Returns how many bytes the message has that begins with these `FIXED` ones; `None` where it is none.
pub(super) fn length(begin: &[u8]) -> Option<usize> {
    let mut reader = Reader { bytes: begin, at: 0 };
    if reader.byte()? != ORDER {
        return None;
    }
    reader.at = 4;
    let body = reader.u32()? as usize;
    reader.at = 12;
    let fields = reader.u32()? as usize;
    let length = FIXED.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (length <= LARGEST).then_some(length)
}

/// Reads a whole message; `None` where it is none.
pub(super) fn read(message: &[u8]) -> Option<Came<'_>> {
    let mut reader = Reader { bytes: message, at: 12 };
    let end = FIXED.checked_add(reader.u32()? as usize)?;
    let (mut answers, mut error, mut signature) = (None, "", "");
    while reader.at < end {
        reader.align(8);
        let code = reader.byte()?;
        match (code, reader.signature()?) {
            (4, "s") => error = reader.text()?,
            (5, "u") => answers = Some(reader.u32()?),
            (8, "g") => signature = reader.signature()?,
            (_, "s" | "o") => {
                reader.text()?;
            }
            (_, "g") => {
                reader.signature()?;
            }
            (_, "u") => {
                reader.u32()?;
            }
            _ => return None,
        }
    }
    let body = message.get(end.next_multiple_of(8)..)?;
    match *message.get(1)? {
        ANSWER => Some(Came { answers: Some(answers?), content: Ok((signature, body)) }),
        ERROR => Some(Came { answers: Some(answers?), content: Err(error) }),
        _ => Some(Came { answers: None, content: Err("") }),
    }
}

/// Goes through the values of a body.
#[derive(Debug)]
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        self.align(8);
        Some(u64::from_ne_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Returns a text or a path.
    pub(super) fn text(&mut self) -> Option<&'b str> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    fn signature(&mut self) -> Option<&'b str> {
        let length = self.byte()?.into();
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Option<&'b str> {
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    /// Returns how far an array goes on that begins here, and of whose elements each is aligned to 8.
    pub(super) fn array(&mut self) -> Option<usize> {
        let length = self.u32()? as usize;
        self.align(8);
        self.at.checked_add(length).filter(|end| *end <= self.bytes.len())
    }

    pub(super) fn is_before(&self, end: usize) -> bool {
        self.at < end
    }

    /// Returns the text of a variant; `None` where it holds another type.
    pub(super) fn variant_text(&mut self) -> Option<&'b str> {
        if self.signature()? == "s" { self.text() } else { None }
    }

    /// Returns the number of a variant; `None` where it holds another type.
    pub(super) fn variant_number(&mut self) -> Option<u64> {
        match self.signature()? {
            "u" => self.u32().map(u64::from),
            "t" => self.u64(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call<'c>(arguments: [&'c str; 2], count: usize) -> Call<'c> {
        let (path, interface, member) = ("/org/freedesktop/systemd1", "org.freedesktop.DBus.Properties", "Get");
        Call { destination: Some("org.freedesktop.systemd1"), path, interface, member, arguments, count }
    }

    #[test]
    fn a_call_is_as_long_as_it_says_and_its_arguments_are_its_body() {
        let mut out = Vec::new();
        write(&call(["org.freedesktop.systemd1.Service", "Type"], 2), 7, &mut out);
        assert_eq!(length(&out), Some(out.len()));
        // As an answer of the same form.
        out[1] = ANSWER;
        assert_eq!(read(&out), None, "it answers nothing");
        let end = FIXED + Reader { bytes: &out, at: 12 }.u32().unwrap() as usize;
        let mut body = Reader::new(&out[end.next_multiple_of(8)..]);
        assert_eq!((body.text(), body.text()), (Some("org.freedesktop.systemd1.Service"), Some("Type")));
        assert_eq!(body.text(), None);
        let mut without = Vec::new();
        write(&call(["", ""], 0), 7, &mut without);
        assert!(without.len() < out.len() && without.len().is_multiple_of(8));
        assert_eq!(length(&without), Some(without.len()));
    }

    /// An answer of systemd 252 on a little-endian machine: the property NRestarts of a service, which is 5.
    #[test]
    #[cfg(target_endian = "little")]
    fn an_answer_is_read() {
        let mut answer = vec![b'l', ANSWER, 1, 1, 8, 0, 0, 0, 9, 0, 0, 0, 15, 0, 0, 0];
        answer.extend([5, 1, b'u', 0, 3, 0, 0, 0, 8, 1, b'g', 0, 1, b'v', 0, 0]);
        answer.extend([1, b'u', 0, 0, 5, 0, 0, 0]);
        assert_eq!(length(&answer[..FIXED]), Some(answer.len()));
        let came = read(&answer).unwrap();
        let (signature, body) = came.content.unwrap();
        assert_eq!((came.answers, signature), (Some(3), "v"));
        assert_eq!(Reader::new(body).variant_number(), Some(5));
        assert_eq!(Reader::new(body).variant_text(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = length(&bytes);
            let _ = read(&bytes);
            let mut reader = Reader::new(&bytes);
            while reader.variant_number().is_some() || reader.text().is_some() || reader.array().is_some() {}
        }
    }
}

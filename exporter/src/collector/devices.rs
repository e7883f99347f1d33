//! What is kept per device from one scrape to the next: open files and rendered labels. What a scrape does not name is
//! dropped, so that devices that come and go leave nothing behind.

/// A value per device.
#[derive(Debug)]
pub(crate) struct Devices<T> {
    /// In the order in which the last scrape named them.
    list: Vec<Device<T>>,
    /// Where the device that is named next is expected, and how many were named.
    next: usize,
    named: usize,
}

#[derive(Debug)]
struct Device<T> {
    name: Box<[u8]>,
    /// How many were named before it in this scrape; `None` until it is named.
    order: Option<usize>,
    value: T,
}

impl<T> Devices<T> {
    pub(crate) const fn new() -> Self {
        Self { list: Vec::new(), next: 0, named: 0 }
    }

    /// Says that a new scrape names its devices from here on.
    pub(crate) fn begin(&mut self) {
        (self.next, self.named) = (0, 0);
        for device in &mut self.list {
            device.order = None;
        }
    }

    /// Returns what is kept for a device, made by `new` from its name if it was not there before.
    pub(crate) fn entry(&mut self, name: &[u8], new: impl FnOnce(&str) -> T) -> &mut T {
        // The kernel names them in the same order every time, so the expected one is nearly always right.
        let at = match self.list.get(self.next) {
            Some(device) if *device.name == *name => self.next,
            _ => self.list.iter().position(|device| *device.name == *name).unwrap_or_else(|| {
                self.list.push(Device { name: name.into(), order: None, value: new(&String::from_utf8_lossy(name)) });
                self.list.len() - 1
            }),
        };
        self.next = at + 1;
        let device = &mut self.list[at];
        device.order.get_or_insert(self.named);
        self.named += 1;
        &mut device.value
    }

    /// Says that all were named: drops the others and takes the order of this scrape.
    pub(crate) fn finish(&mut self) {
        self.list.retain(|device| device.order.is_some());
        // By insertion: nearly all stand where they stood, and the sort of the standard library is 10 kB for each type.
        for at in 1..self.list.len() {
            let order = self.list[at].order;
            let mut to = at;
            while to > 0 && self.list[to - 1].order > order {
                to -= 1;
            }
            if to < at {
                self.list[to..=at].rotate_right(1);
            }
        }
    }

    /// Returns the values in the order of the last scrape.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.list.iter().map(|device| &device.value)
    }

    /// Calls `change` with the name and the value of each, in the order of the last scrape.
    pub(crate) fn for_each_named(&mut self, mut change: impl FnMut(&[u8], &mut T)) {
        for device in &mut self.list {
            change(&device.name, &mut device.value);
        }
    }

    /// Returns the values in the order of the last scrape, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.list.iter_mut().map(|device| &mut device.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_all(devices: &mut Devices<String>, names: &[&str]) -> usize {
        let mut made = 0;
        devices.begin();
        for name in names {
            devices.entry(name.as_bytes(), |name| {
                made += 1;
                name.to_owned()
            });
        }
        devices.finish();
        assert_eq!(devices.iter().collect::<Vec<_>>(), names);
        made
    }

    #[test]
    fn devices_come_go_and_change_places() {
        let mut devices = Devices::new();
        assert_eq!(name_all(&mut devices, &["a", "b", "c"]), 3);
        assert_eq!(name_all(&mut devices, &["a", "b", "c"]), 0);
        assert_eq!(name_all(&mut devices, &["c", "a"]), 0);
        assert_eq!(name_all(&mut devices, &["b", "c", "d", "a"]), 2);
        assert_eq!(name_all(&mut devices, &[]), 0);
    }
}

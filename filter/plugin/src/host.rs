//! The only file that names a host call. Every call answers with a value or nothing, and none can panic: the SDK's own
//! helpers do on a status that they do not list, or on a header that is not UTF-8, and a panic ends the VM for all its
//! streams.
//!
//! Source: the proxy-wasm ABI 0.2.1 specification, "Functions implemented in the host environment".

#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ptr::null_mut;

use attache_gateway::store::Store;

/// `proxy_buffer_type_t`
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Body {
    Request = 0,
    Response = 1,
    /// What a connection brings, and what is written to it: of network filters.
    Downstream = 2,
    Upstream = 3,
    /// The message of a call's answer.
    CallResponse = 5,
    PluginConfiguration = 7,
}

/// `proxy_header_map_type_t`
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Headers {
    Request = 0,
    Response = 2,
}

const OK: u32 = 0;
const COUNTER: u32 = 0;
const GAUGE: u32 = 1;
const NO_GRPC_STATUS: i32 = -1;
/// `proxy_stream_type_t`
const REQUEST: u32 = 0;
const RESPONSE: u32 = 1;
const DOWNSTREAM: u32 = 2;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_buffer_bytes(
        kind: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_buffer_bytes(kind: u32, start: usize, length: usize, data: *const u8, size: usize) -> u32;
    fn proxy_get_header_map_pairs(kind: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        kind: u32,
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        kind: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(kind: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        version: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        version: u32,
    ) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
}

/// What a call returned through `data` and `size`.
fn taken(status: u32, data: *mut u8, size: usize) -> Option<Vec<u8>> {
    if status != OK {
        return None;
    }
    if data.is_null() {
        return Some(Vec::new());
    }
    // SAFETY: the host wrote `size` bytes into memory that it got from the SDK's `proxy_on_memory_allocate`, which
    // makes it as a `Vec<u8>` of that capacity, and gives up its ownership with this call.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// Bytes of a body from `start`; of a whole one with `max = usize::MAX`.
pub fn body(kind: Body, start: usize, max: usize) -> Vec<u8> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: both pointers are to locals that outlive the call.
    let status = unsafe { proxy_get_buffer_bytes(kind as u32, start, max, &mut data, &mut size) };
    taken(status, data, size).unwrap_or_default()
}

/// Replaces the first `length` bytes of what the callback holds of a body.
pub fn set_body(kind: Body, length: usize, bytes: &[u8]) {
    // SAFETY: pointer and size are one slice's.
    unsafe { proxy_set_buffer_bytes(kind as u32, 0, length, bytes.as_ptr(), bytes.len()) };
}

/// All headers of a map.
pub fn headers(kind: Headers) -> Pairs {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: both pointers are to locals that outlive the call.
    let status = unsafe { proxy_get_header_map_pairs(kind as u32, &mut data, &mut size) };
    Pairs(taken(status, data, size).unwrap_or_default())
}

/// A header map as the host writes it: a count, then the sizes of every name and value, then all of them, each ended by a
/// zero byte; numbers are u32 LE.
pub struct Pairs(Vec<u8>);

impl Pairs {
    /// Names and values in order. What is not UTF-8 in them is replaced by U+FFFD.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let count = self.number(0).unwrap_or(0);
        let mut at = count.checked_mul(8).and_then(|sizes| sizes.checked_add(4));
        (0..count).map_while(move |index| {
            let from = at?;
            let (name, value) = (self.number(4 + index * 8)?, self.number(8 + index * 8)?);
            let value_from = from.checked_add(name)?.checked_add(1)?;
            at = value_from.checked_add(value)?.checked_add(1);
            Some((self.text(from, name)?, self.text(value_from, value)?))
        })
    }
    fn number(&self, at: usize) -> Option<usize> {
        Some(u32::from_le_bytes(*self.0.get(at..)?.first_chunk()?) as usize)
    }
    fn text(&self, from: usize, size: usize) -> Option<Cow<'_, str>> {
        self.0.get(from..from.checked_add(size)?).map(String::from_utf8_lossy)
    }
}

pub fn header(kind: Headers, name: &str) -> Option<String> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the name's pointer and size are one slice's; the others are to locals that outlive the call.
    let status =
        unsafe { proxy_get_header_map_value(kind as u32, name.as_ptr(), name.len(), &mut data, &mut size) };
    taken(status, data, size).map(|value| String::from_utf8_lossy(&value).into_owned())
}

pub fn set_header(kind: Headers, name: &str, value: &str) {
    // SAFETY: each pointer and size are one slice's.
    unsafe {
        proxy_replace_header_map_value(kind as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    };
}

pub fn remove_header(kind: Headers, name: &str) {
    // SAFETY: pointer and size are one slice's.
    unsafe { proxy_remove_header_map_value(kind as u32, name.as_ptr(), name.len()) };
}

/// An Envoy attribute, or filter state of ours; `path` has zero bytes between its parts.
pub fn property(path: &str) -> Option<Vec<u8>> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the path's pointer and size are one slice's; the others are to locals that outlive the call.
    let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), &mut data, &mut size) };
    taken(status, data, size)
}

/// Writes filter state: Envoy knows it as `wasm.<name>`.
pub fn set_state(name: &str, value: &[u8]) {
    // SAFETY: each pointer and size are one slice's.
    unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Answers the request here. Envoy does so after the callback has returned.
pub fn reply(status: u16, details: &str, headers: &[(&str, &str)], body: &[u8]) {
    let mut map = (headers.len() as u32).to_le_bytes().to_vec();
    for (name, value) in headers {
        map.extend_from_slice(&(name.len() as u32).to_le_bytes());
        map.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for (name, value) in headers {
        for text in [name, value] {
            map.extend_from_slice(text.as_bytes());
            map.push(0);
        }
    }
    // SAFETY: each pointer and size are one slice's.
    unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            map.as_ptr(),
            map.len(),
            NO_GRPC_STATUS,
        )
    };
}

/// Defines a counter (or finds it, by its name).
pub fn counter(name: &str) -> Option<u32> {
    metric(COUNTER, name)
}

fn metric(kind: u32, name: &str) -> Option<u32> {
    let mut id = 0;
    // SAFETY: the name's pointer and size are one slice's; the id's pointer is to a local that outlives the call.
    let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) };
    (status == OK).then_some(id)
}

/// Sets a gauge of that name.
pub fn show(name: &str, value: u64) {
    if let Some(id) = metric(GAUGE, name) {
        // SAFETY: no pointers.
        unsafe { proxy_record_metric(id, value) };
    }
}

pub fn raise(counter: u32, by: u64) {
    // SAFETY: no pointers.
    unsafe { proxy_increment_metric(counter, i64::try_from(by).unwrap_or(i64::MAX)) };
}

/// Unix time in milliseconds.
pub fn now() -> u64 {
    let mut nanoseconds = 0;
    // SAFETY: the pointer is to a local that outlives the call.
    let status = unsafe { proxy_get_current_time_nanoseconds(&mut nanoseconds) };
    if status == OK { nanoseconds / 1_000_000 } else { 0 }
}

/// Calls a method of a gRPC service; from a callback of the root context, whose `on_grpc_call_response` gets the answer.
/// Returns the call's token, or nothing where Envoy could not even try.
///
/// The SDK's own function, since only it can tell the SDK whose the answer is. It panics on a status that Envoy gives only for
/// a target that it cannot read.
pub fn call(target: &str, service: &str, method: &str, message: &[u8], milliseconds: u64) -> Option<u32> {
    let timeout = std::time::Duration::from_millis(milliseconds);
    proxy_wasm::hostcalls::dispatch_grpc_call(target, service, method, Vec::new(), Some(message), timeout)
        .ok()
}

/// Calls the root context's `on_tick` so often; 0: no more.
pub fn tick_every(milliseconds: u32) {
    // SAFETY: no pointers.
    unsafe { proxy_set_tick_period_milliseconds(milliseconds) };
}

/// The calls that follow are about this context. `false`: there is none of this id.
pub fn act_for(context: u32) -> bool {
    // SAFETY: no pointers.
    let status = unsafe { proxy_set_effective_context(context) };
    status == OK
}

/// Lets a held request go. Envoy does so after the callback has returned.
pub fn release_request() {
    // SAFETY: no pointers.
    unsafe { proxy_continue_stream(REQUEST) };
}

/// Lets a held answer go. Envoy does so after the callback has returned.
pub fn release_answer() {
    // SAFETY: no pointers.
    unsafe { proxy_continue_stream(RESPONSE) };
}

/// Breaks the exchange off. Envoy does so after the callback has returned.
pub fn cut() {
    // SAFETY: no pointers.
    unsafe { proxy_close_stream(RESPONSE) };
}

/// Closes a network filter's connection when all that was written to it is on its way. Envoy does so after the callback
/// has returned.
pub fn close_connection() {
    // SAFETY: no pointers.
    unsafe { proxy_close_stream(DOWNSTREAM) };
}

/// Envoy's shared data.
pub struct Shared;

impl Store for Shared {
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        let (mut data, mut size, mut version) = (null_mut(), 0, 0);
        // SAFETY: the key's pointer and size are one slice's; the others are to locals that outlive the call.
        let status =
            unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), &mut data, &mut size, &mut version) };
        Some((taken(status, data, size)?, version))
    }
    fn write(&self, key: &str, value: &[u8], version: u32) -> bool {
        // SAFETY: each pointer and size are one slice's.
        let status =
            unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), version) };
        status == OK
    }
}

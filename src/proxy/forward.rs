//! One request: whom it is for, which process takes it, and what comes back.

use super::access::{Head, Record};
use super::asked::Asked;
use super::board::Choice;
use super::body::{Relay, ReplyBody, RequestBody};
use super::client::Client;
use super::gate;
use super::headers;
use super::meter::Ongoing;
use super::pages::Page;
use super::places::Full;
use super::queue::Waited;
use super::request;
use super::routing::Backend;
use super::upload::{Fault, Upload};
use super::upstream::{InFlight, Sender, is_our_own};
use super::waiting;
use crate::model::Sleeps;
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, CONNECTION, HeaderValue, SET_COOKIE, TRANSFER_ENCODING, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Version};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

/// First pause before the next attempt when every process refuses; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// A request that can't be repeated takes a pooled connection only this
/// young: an older one may be closing at the other end just now.
const FRESH: Duration = Duration::from_secs(1);

/// A request on its way to an app.
struct Errand {
    request: Request<RequestBody>,
    /// What the request asks to change its protocol to.
    upgrade: Option<HeaderValue>,
    /// What is known of it.
    record: Record,
    /// So long it has waited for a process to have time.
    waited: Duration,
    /// Whose app lets it in, and on what terms.
    admitted: Option<Arc<Backend>>,
    /// How it has fared while its app was asleep.
    nap: Nap,
}

/// A request whose app sleeps, or did so when it came.
#[derive(Default)]
struct Nap {
    /// It waits for its app to wake.
    held: Option<waiting::Held>,
    /// It goes on before others that waited.
    pass: Option<OwnedSemaphorePermit>,
    /// So long it has waited.
    lasted: Duration,
}

/// Why an attempt brought no response.
#[allow(clippy::large_enum_variant)] // moved once, on the rare path
enum Failure {
    /// Nothing of the request was sent: the target can't be connected to.
    Refused(Box<Request<RequestBody>>),
    /// Likewise: it did not take the connection in time, as one does that is busy.
    Busy(Box<Request<RequestBody>>),
    /// Likewise: we have no file or port left for a connection.
    Short(Box<Request<RequestBody>>),
    /// No response, though it was sent; another process may be asked once more.
    Lost(Box<Request<RequestBody>>),
    /// No response, and the app may have begun to work on the request.
    Page(Page),
    /// The request itself did not come to its end.
    Client(Fault),
}

/// A response's head with the connection that its body will come from.
struct Exchange {
    response: Response<Incoming>,
    sender: Sender,
    upload: Option<Arc<Upload>>,
    in_flight: InFlight,
    /// What the connection took.
    connect: Duration,
}

impl Exchange {
    fn is_switching(&self) -> bool {
        self.response.status() == StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Answers one request; never fails.
pub(super) async fn answer(
    client: &Client,
    request: Request<Incoming>,
    full: Option<Full>,
) -> Response<ReplyBody> {
    let asked_to_upgrade = request.headers().contains_key(UPGRADE);
    let mut response = answer_in_turn(client, request, full).await;
    // What follows an upgrade that did not happen is in no protocol for sure;
    // and what follows from now on is for the next proxy.
    let last = asked_to_upgrade || client.shared.is_leaving();
    if last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn answer_in_turn(
    client: &Client,
    request: Request<Incoming>,
    full: Option<Full>,
) -> Response<ReplyBody> {
    let started = Instant::now();
    let (mut parts, incoming) = request.into_parts();
    let authority = match request::check(&mut parts, client.origin.scheme) {
        Ok(authority) => authority,
        Err(refusal) => {
            let page = Page::Refused(refusal);
            client.shared.census.stray(page.status());
            let accept = parts.headers.get(ACCEPT);
            return own_page(&page, accept, Record::new(parts.method, parts.uri, started));
        }
    };
    let before_the_app = client.before_the_app(authority.host(), &parts.uri);
    if let Some(page) = before_the_app.or(full.map(Page::Full)) {
        client.shared.census.stray(page.status());
        let record = Record::new(parts.method, parts.uri, started);
        return own_page(&page, parts.headers.get(ACCEPT), record);
    }
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    let accept = parts.headers.get(ACCEPT).cloned();
    let upgrade = headers::prepare_request(&mut parts.headers, &client.origin, authority.value());
    parts.extensions.clear();
    // Over HTTP/1 the connection itself waits for a body no longer than that.
    let patience = (parts.version == Version::HTTP_2).then_some(client.shared.limits.body);
    parts.version = Version::HTTP_11;
    let mut record = Record::new(parts.method.clone(), parts.uri.clone(), started);
    record.head = Some(Box::new(Head::of(&parts.headers)));
    let body = RequestBody::new(incoming, patience);
    if body.size_hint().exact().is_none() {
        // Said, because hyper would leave out such a body of a GET.
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let request = Request::from_parts(parts, body);
    let errand =
        Errand { request, upgrade, record, waited: Duration::ZERO, admitted: None, nap: Nap::default() };
    match carry(client, authority.host(), errand).await {
        Ok(delivery) => delivery.into_response(client, on_upgrade),
        Err((page, record)) => own_page(&page, accept.as_ref(), record),
    }
}

struct Delivery {
    exchange: Exchange,
    upgrade: Option<HeaderValue>,
    /// What brings the client's next request to the same process.
    cookie: Option<HeaderValue>,
    record: Record,
}

/// Takes the request to one process after another until one has it.
async fn carry(client: &Client, host: &str, mut errand: Errand) -> Result<Delivery, (Page, Record)> {
    let limits = &client.shared.limits;
    let (mut pause, mut lost) = (FIRST_PAUSE, false);
    let mut asked = Asked::default();
    let page = loop {
        let (backend, in_flight) = match place(client, host, &mut errand, &asked).await {
            Ok(place) => place,
            Err(page) => break page,
        };
        let begun = errand.record.started + errand.waited + errand.nap.lasted;
        let upstream = Arc::clone(in_flight.upstream());
        if backend.sleeps == Sleeps::Awake
            && !waiting::is_crawler(&errand.record.method, errand.request.headers())
        {
            upstream.used();
        }
        if asked.is_in_vain(&upstream) {
            // As all were; but those that were busy may have time now.
            if asked.forget_busy() {
                continue;
            }
            if Instant::now() + pause > begun + limits.retry {
                break backend.instead(Page::Refusing);
            }
            // Not counted while it waits, and chosen anew: the table may change.
            drop(in_flight);
            errand.held();
            tokio::time::sleep(pause).await;
            pause *= 2;
            asked.forget();
            continue;
        }
        let another = backend.has_another(&upstream, &asked);
        let others = another && begun.elapsed() < limits.connect_last;
        let terms = Terms {
            // Of one other: a request that ends processes must not end them all.
            repeat: another && !lost,
            connect: if others { limits.connect } else { limits.connect_last },
            first_byte: backend.http.first_byte().unwrap_or(limits.first_byte),
        };
        let cookie = backend.cookie(errand.request.headers(), &upstream);
        match attempt(client, in_flight, errand.request, terms).await {
            // Nobody asked for another protocol.
            Ok(exchange) if exchange.is_switching() && errand.upgrade.is_none() => {
                errand.record.process = Some(Arc::clone(&upstream));
                break backend.instead_of(&upstream, Page::Closed);
            }
            Ok(exchange) => {
                backend.counter_of(&upstream).note(exchange.response.status());
                let mut record = errand.record;
                record.process = Some(upstream);
                record.status = exchange.response.status();
                record.connect = Some(exchange.connect);
                if let Some(ongoing) = &mut record.ongoing {
                    ongoing.answered(record.status, record.started.elapsed());
                }
                return Ok(Delivery { exchange, upgrade: errand.upgrade, cookie, record });
            }
            Err(Failure::Refused(request)) => {
                backend.charge_canary(&upstream);
                backend.meter.ejected();
                asked.refused(upstream);
                errand.request = *request;
            }
            Err(Failure::Busy(request)) if others => {
                backend.meter.ejected();
                asked.busy(upstream);
                errand.request = *request;
            }
            // That it has much to do is no fault of the release.
            Err(Failure::Busy(_)) => {
                errand.record.process = Some(upstream);
                break Page::Busy;
            }
            Err(Failure::Lost(request)) => {
                backend.charge_canary(&upstream);
                lost = true;
                asked.lost(upstream);
                errand.request = *request;
            }
            Err(Failure::Short(request)) => {
                if Instant::now() + pause > begun + limits.retry {
                    break Page::Full(Full::Proxy);
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
                errand.request = *request;
            }
            Err(Failure::Page(page)) => {
                let page = backend.instead_of(&upstream, page);
                errand.record.process = Some(upstream);
                break page;
            }
            Err(Failure::Client(fault)) => break Page::CutOff(fault),
        }
    };
    if errand.record.ongoing.is_none() {
        client.shared.census.stray(page.status());
    }
    Err((page, errand.record))
}

impl Errand {
    /// From now on it is a request of this app.
    fn begin(&mut self, backend: &Backend) {
        if self.record.ongoing.is_none() {
            self.request.body_mut().count(&backend.meter);
            self.record.ongoing = Some(backend.meter.begin());
        }
    }

    /// It has to wait.
    fn held(&mut self) {
        self.record.ongoing.iter_mut().for_each(Ongoing::held);
    }
}

/// The process that the request goes to next, when it has time; or why to none.
async fn place(
    client: &Client,
    host: &str,
    errand: &mut Errand,
    asked: &Asked,
) -> Result<(Arc<Backend>, InFlight), Page> {
    let (limits, board) = (&client.shared.limits, &client.shared.board);
    loop {
        let of = (host, errand.record.uri.path());
        let choice = board.choose(client.entry, of, asked, errand.request.headers());
        let backend = match &choice {
            Choice::Target { backend, .. } | Choice::Wait(backend, _) | Choice::Outage(backend) => backend,
            Choice::Unknown => return Err(Page::UnknownHost(host.to_owned())),
        };
        errand.begin(backend);
        errand.record.app = Some(Arc::clone(backend));
        let asked_for = (&errand.record.method, &errand.record.uri);
        if let Some(page) = gate::stop(client, backend, host, asked_for, errand.request.headers()) {
            return Err(page);
        }
        if let Some(before) = &errand.admitted {
            gate::expect_same(before, backend)?;
        } else {
            gate::admit(client, backend, errand.request.headers_mut()).await?;
            gate::strip(client, backend, host, &mut errand.request);
            errand.admitted = Some(Arc::clone(backend));
        }
        let most = backend.http.body_limit.map_or(limits.body_limit, |limit| limit.0);
        if !errand.request.body_mut().limit(most) {
            return Err(Page::CutOff(Fault::TooLarge));
        }
        if errand.nap.held.is_some() && !matches!(choice, Choice::Outage(_)) {
            drop(choice);
            errand.nap.wake(errand.record.started).await;
            continue;
        }
        let (backend, only) = match choice {
            Choice::Target { backend, in_flight } => return Ok((backend, in_flight)),
            Choice::Wait(backend, only) => (backend, only),
            Choice::Outage(backend) if backend.sleeps == Sleeps::Asleep => {
                hold(client, &backend, errand).await?;
                continue;
            }
            Choice::Outage(backend) => return Err(backend.outage()),
            Choice::Unknown => return Err(Page::UnknownHost(host.to_owned())),
        };
        let Some(queue) = backend.queue() else { continue };
        errand.held();
        let begun = Instant::now();
        // Who need not wait pays nothing for what that takes.
        let waited = Box::pin(queue.wait(only, asked, limits.queue.saturating_sub(errand.waited))).await;
        errand.waited += begun.elapsed();
        match waited {
            // It may be another release by now.
            Waited::In(in_flight) => {
                let backend =
                    board.backend(client.entry, (host, errand.record.uri.path())).unwrap_or(backend);
                errand.record.app = Some(Arc::clone(&backend));
                if let Some(before) = &errand.admitted {
                    gate::expect_same(before, &backend)?;
                }
                // What holds for all requests holds for those that waited, too.
                let asked_for = (&errand.record.method, &errand.record.uri);
                return match gate::stop(client, &backend, host, asked_for, errand.request.headers()) {
                    Some(page) => Err(page),
                    None => Ok((backend, in_flight)),
                };
            }
            Waited::Anew => tokio::task::yield_now().await,
            Waited::InVain => return Err(Page::Full(Full::App)),
        }
    }
}

/// Waits a while for an app that sleeps; then its route is to be looked at again.
async fn hold(client: &Client, backend: &Backend, errand: &mut Errand) -> Result<(), Page> {
    let waiting = &client.shared.board.waiting;
    match &mut errand.nap.held {
        // It may have woken before we stood in line.
        None if !waiting::is_crawler(&errand.record.method, errand.request.headers()) => {
            let place = waiting.enter(&backend.app, waiting::size_of(&errand.request))?;
            errand.nap.held = Some(place);
            errand.held();
            Ok(())
        }
        None => Err(Page::Asleep),
        Some(held) => {
            let until = errand.record.started + client.shared.limits.wake;
            let stopping = client.shared.stop.run_until_cancelled(waiting.wait(held, until));
            stopping.await.unwrap_or(Err(Page::NotAwake))
        }
    }
}

impl Nap {
    /// The app is awake: goes on when it is this one's turn.
    async fn wake(&mut self, started: Instant) {
        if let Some(held) = self.held.take() {
            self.pass = held.pass().await;
        }
        self.lasted = started.elapsed();
    }
}

/// What is granted to one process.
#[derive(Clone, Copy)]
struct Terms {
    /// Time to take a connection.
    connect: Duration,
    /// Time to begin its answer.
    first_byte: Duration,
    /// Whether another one may be asked if the answer is lost.
    repeat: bool,
}

/// One process: its pooled connections first, then a fresh one.
async fn attempt(
    client: &Client,
    in_flight: InFlight,
    mut request: Request<RequestBody>,
    terms: Terms,
) -> Result<Exchange, Failure> {
    let limits = &client.shared.limits;
    let upstream = Arc::clone(in_flight.upstream());
    let repeatable = is_repeatable(&request);
    let age = if repeatable { limits.idle } else { FRESH };
    while let Some(mut sender) = upstream.take_idle(age) {
        if sender.ready().await.is_err() {
            continue;
        }
        let copy = repeatable.then(|| copy_of(&request));
        match send(&mut sender, request, &in_flight, terms.first_byte).await {
            Ok((response, upload)) => {
                return Ok(Exchange { response, sender, upload, in_flight, connect: Duration::ZERO });
            }
            Err(Unanswered::Unsent(back)) => request = *back,
            Err(Unanswered::Late) => return Err(Failure::Page(Page::Timeout)),
            Err(Unanswered::Client(fault)) => return Err(Failure::Client(fault)),
            Err(Unanswered::Lost) => match copy {
                // It was closing when the request got there: begin afresh.
                Some(copy) => {
                    request = copy;
                    break;
                }
                None => return Err(Failure::Page(Page::Closed)),
            },
        }
    }
    attempt_afresh(client, in_flight, request, terms).await
}

async fn attempt_afresh(
    client: &Client,
    in_flight: InFlight,
    request: Request<RequestBody>,
    terms: Terms,
) -> Result<Exchange, Failure> {
    let upstream = in_flight.upstream();
    let begun = Instant::now();
    let mut sender = match upstream.connect(terms.connect).await {
        Ok(sender) => sender,
        Err(error) => {
            debug!(address = %upstream.target.address, %error, "no connection to an app's process");
            let request = Box::new(request);
            return Err(match error.kind() {
                ErrorKind::TimedOut => Failure::Busy(request),
                _ if is_our_own(&error) => {
                    client.shared.relieve(&error);
                    Failure::Short(request)
                }
                _ => Failure::Refused(request),
            });
        }
    };
    let connect = begun.elapsed();
    let copy = (terms.repeat && is_repeatable(&request)).then(|| copy_of(&request));
    match send(&mut sender, request, &in_flight, terms.first_byte).await {
        Ok((response, upload)) => Ok(Exchange { response, sender, upload, in_flight, connect }),
        Err(Unanswered::Unsent(back)) => Err(Failure::Refused(back)),
        Err(Unanswered::Late) => Err(Failure::Page(Page::Timeout)),
        Err(Unanswered::Client(fault)) => Err(Failure::Client(fault)),
        Err(Unanswered::Lost) => {
            Err(copy.map_or(Failure::Page(Page::Closed), |copy| Failure::Lost(Box::new(copy))))
        }
    }
}

/// Whether it may be sent once more though it may have arrived.
fn is_repeatable(request: &Request<RequestBody>) -> bool {
    request.method().is_idempotent() && request.body().is_empty()
}

/// The same request once more; only for those without a body.
fn copy_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

/// Why a connection brought no response.
#[allow(clippy::large_enum_variant)] // moved once, on the rare path
enum Unanswered {
    /// Nothing was sent; here is the request again.
    Unsent(Box<Request<RequestBody>>),
    /// Something was sent, and then the connection ended.
    Lost,
    /// No response in time.
    Late,
    /// The client did not send all of the request.
    Client(Fault),
}

async fn send(
    sender: &mut Sender,
    mut request: Request<RequestBody>,
    in_flight: &InFlight,
    limit: Duration,
) -> Result<(Response<Incoming>, Option<Arc<Upload>>), Unanswered> {
    let upload = request.body_mut().watch(in_flight);
    let response = sender.try_send_request(request);
    tokio::pin!(response);
    let mut wait = limit;
    loop {
        match tokio::time::timeout(wait, response.as_mut()).await {
            Ok(Ok(response)) => return Ok((response, upload)),
            Ok(Err(mut error)) => {
                debug!(error = %error.error(), "no response from an app");
                if let Some(fault) = upload.and_then(|upload| upload.fault()) {
                    return Err(Unanswered::Client(fault));
                }
                return Err(error
                    .take_message()
                    .map_or(Unanswered::Lost, |back| Unanswered::Unsent(Box::new(back))));
            }
            // A slow upload is no slow app: time counts from its last movement.
            Err(_) => match upload.as_ref().and_then(|upload| upload.patience(limit)) {
                Some(left) => wait = left,
                None => return Err(Unanswered::Late),
            },
        }
    }
}

impl Delivery {
    fn into_response(self, client: &Client, on_upgrade: Option<OnUpgrade>) -> Response<ReplyBody> {
        if self.exchange.is_switching() {
            return self.into_tunnel(client, on_upgrade);
        }
        let Exchange { response, sender, upload, in_flight, .. } = self.exchange;
        let (mut parts, incoming) = response.into_parts();
        headers::remove_hop_by_hop(&mut parts.headers);
        if let Some(app) = &self.record.app {
            client.insist_on_https(app, &mut parts.headers);
        }
        parts.headers.extend(self.cookie.map(|cookie| (SET_COOKIE, cookie)));
        parts.extensions.clear();
        parts.version = Version::HTTP_11;
        let relay =
            Relay { incoming, sender: Some(sender), upload, in_flight, record: self.record, ended: false };
        Response::from_parts(parts, ReplyBody::Relay(Box::new(relay)))
    }

    /// From here on bytes go both ways unread, and count as in flight.
    fn into_tunnel(self, client: &Client, on_upgrade: Option<OnUpgrade>) -> Response<ReplyBody> {
        let Exchange { mut response, in_flight, .. } = self.exchange;
        let (Some(asked), Some(to_client)) = (self.upgrade, on_upgrade) else {
            // Nobody asked for it.
            return own_page(&Page::Closed, None, self.record);
        };
        let to_app = hyper::upgrade::on(&mut response);
        let (mut parts, _) = response.into_parts();
        let protocol = headers::remove_hop_by_hop(&mut parts.headers).unwrap_or(asked);
        headers::announce_upgrade(&mut parts.headers, protocol);
        parts.headers.extend(self.cookie.map(|cookie| (SET_COOKIE, cookie)));
        parts.extensions.clear();
        let held = (in_flight, client.place.request());
        let tunnel = super::tunnel::run(to_client, to_app, held, self.record);
        let kill = client.shared.kill.clone();
        client.shared.tasks.spawn(async move { kill.run_until_cancelled(tunnel).await });
        Response::from_parts(parts, ReplyBody::Page(None))
    }
}

fn own_page(page: &Page, accept: Option<&HeaderValue>, record: Record) -> Response<ReplyBody> {
    let response = page.response(accept);
    record.paged(page, response.body().size_hint().lower()).finish();
    response
}

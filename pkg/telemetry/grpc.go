package telemetry

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/rpcconv"
	"go.opentelemetry.io/otel/trace"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// GRPCServer measures and traces the calls a server answers.
func (t *Telemetry) GRPCServer() stats.Handler {
	h := t.grpc(trace.SpanKindServer)
	d, err := rpcconv.NewServerCallDuration(t.Meter(grpcScope))
	h.took, h.broken = d.Inst(), err != nil
	return h
}

// GRPCClient measures and traces the calls a client makes.
func (t *Telemetry) GRPCClient() stats.Handler {
	h := t.grpc(trace.SpanKindClient)
	d, err := rpcconv.NewClientCallDuration(t.Meter(grpcScope))
	h.took, h.broken = d.Inst(), err != nil
	return h
}

const grpcScope = "github.com/fulcrum-io/fulcrum/pkg/telemetry"

func (t *Telemetry) grpc(kind trace.SpanKind) *calls {
	return &calls{kind: kind, tracer: t.Tracer(grpcScope), methods: map[string]*method{}}
}

// calls is a stats.Handler with the spans and the durations of OpenTelemetry's
// conventions for gRPC. What a call is measured by is put together once for each
// method and outcome and not once a call: at each end of a call OpenTelemetry's
// own handler costs a tenth of it.
type calls struct {
	kind   trace.SpanKind
	tracer trace.Tracer
	took   metric.Float64Histogram
	broken bool // there is no such instrument

	mu      sync.RWMutex // guards methods
	methods map[string]*method
	peer    atomic.Pointer[peer] // the last one that was called
}

// method is what calls of one method share.
type method struct {
	name    string
	attrs   []attribute.KeyValue
	span    []trace.SpanStartOption
	mu      sync.RWMutex // guards outcome
	outcome map[outcome]metric.MeasurementOption
}

// outcome is what the durations of a method are told apart by.
type outcome struct {
	code grpccodes.Code
	peer *peer // of a client
}

// peer is who was called. A connection has one address, so it is read once.
type peer struct {
	addr  net.Addr
	attrs []attribute.KeyValue
}

// maxKept bounds what is kept: the names of methods come from whoever calls.
const maxKept = 1000

// call is what is known of one until it ends.
type call struct {
	method *method
	span   trace.Span
	peer   *peer
}

type callKey struct{}

// TagConn implements stats.Handler.
func (*calls) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (*calls) HandleConn(context.Context, stats.ConnStats) {}

// TagRPC implements stats.Handler. Probes are left out: they would be most of all
// spans.
func (h *calls) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if strings.HasPrefix(info.FullMethodName, "/grpc.health.v1.Health/") {
		return ctx
	}
	if h.kind == trace.SpanKindServer {
		ctx = Propagator().Extract(ctx, incoming{ctx})
	}
	c := &call{method: h.method(info.FullMethodName)}
	ctx, c.span = h.tracer.Start(ctx, c.method.name, c.method.span...)
	if c.span.IsRecording() { // most are not, and no sampler of ours looks at them
		c.span.SetAttributes(c.method.attrs...)
	}
	if h.kind == trace.SpanKindClient {
		var out outgoing
		Propagator().Inject(ctx, &out)
		if len(out) > 0 {
			ctx = metadata.AppendToOutgoingContext(ctx, out...)
		}
	}
	return context.WithValue(ctx, callKey{}, c)
}

// HandleRPC implements stats.Handler.
func (h *calls) HandleRPC(ctx context.Context, event stats.RPCStats) {
	switch event := event.(type) {
	case *stats.InHeader:
		if c, ok := ctx.Value(callKey{}).(*call); ok && !event.Client && event.LocalAddr != nil && c.span.IsRecording() {
			c.span.SetAttributes(address(event.LocalAddr)...)
		}
	case *stats.OutHeader:
		if c, ok := ctx.Value(callKey{}).(*call); ok && event.Client && event.RemoteAddr != nil {
			c.peer = h.called(event.RemoteAddr)
			c.span.SetAttributes(c.peer.attrs...)
		}
	case *stats.End:
		if c, ok := ctx.Value(callKey{}).(*call); ok {
			h.end(ctx, c, event)
		}
	}
}

func (h *calls) end(ctx context.Context, c *call, event *stats.End) {
	s := status.Convert(event.Error)
	if c.span.IsRecording() {
		if h.fault(s.Code()) {
			c.span.SetStatus(codes.Error, s.Message())
		}
		c.span.SetAttributes(semconv.RPCResponseStatusCode(codeName(s.Code())))
		c.span.End()
	}
	if !h.broken && h.took.Enabled(ctx) {
		took := event.EndTime.Sub(event.BeginTime)
		h.took.Record(ctx, float64(took)/float64(time.Second), h.measuredBy(c.method, outcome{s.Code(), c.peer}))
	}
}

// fault reports whether a code is an error of this end. To a client everything
// but OK is; that somebody asks a server for what cannot be is not the server's.
func (h *calls) fault(code grpccodes.Code) bool {
	if h.kind == trace.SpanKindClient {
		return code != grpccodes.OK
	}
	switch code {
	case grpccodes.Unknown, grpccodes.DeadlineExceeded, grpccodes.Unimplemented, grpccodes.Internal, grpccodes.Unavailable, grpccodes.DataLoss:
		return true
	}
	return false
}

func (h *calls) method(full string) *method {
	h.mu.RLock()
	m := h.methods[full]
	h.mu.RUnlock()
	if m != nil {
		return m
	}
	name := strings.TrimPrefix(full, "/")
	m = &method{name: name, attrs: []attribute.KeyValue{semconv.RPCMethod(name), semconv.RPCSystemNameGRPC}, outcome: map[outcome]metric.MeasurementOption{}}
	m.span = []trace.SpanStartOption{trace.WithSpanKind(h.kind)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if kept := h.methods[full]; kept != nil {
		return kept
	}
	if len(h.methods) < maxKept {
		h.methods[full] = m
	}
	return m
}

// measuredBy returns the attributes of the durations of m that ended so.
func (h *calls) measuredBy(m *method, o outcome) metric.MeasurementOption {
	m.mu.RLock()
	set := m.outcome[o]
	m.mu.RUnlock()
	if set != nil {
		return set
	}
	attrs := append([]attribute.KeyValue{semconv.RPCResponseStatusCode(codeName(o.code))}, m.attrs...)
	if o.peer != nil {
		attrs = append(attrs, o.peer.attrs...)
	}
	if h.fault(o.code) {
		attrs = append(attrs, semconv.ErrorTypeKey.String(codeName(o.code)))
	}
	set = metric.WithAttributeSet(attribute.NewSet(attrs...))
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.outcome) >= maxKept { // connections came and went
		clear(m.outcome)
	}
	m.outcome[o] = set
	return set
}

// called returns who is at addr.
func (h *calls) called(addr net.Addr) *peer {
	if p := h.peer.Load(); p != nil && p.addr == addr {
		return p
	}
	p := &peer{addr: addr, attrs: address(addr)}
	h.peer.Store(p)
	return p
}

func address(addr net.Addr) []attribute.KeyValue {
	host, text, err := net.SplitHostPort(addr.String())
	if err != nil {
		return []attribute.KeyValue{semconv.ServerAddress(addr.String())}
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return []attribute.KeyValue{semconv.ServerAddress(host)}
	}
	return []attribute.KeyValue{semconv.ServerAddress(host), semconv.ServerPort(port)}
}

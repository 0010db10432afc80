package extauthz

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/door"
)

var errPanicked = errors.New("internal error")

// The headers that tell the upstream what was decided.
const (
	decisionIDHeader    = "x-fulcrum-decision-id"
	decisionHeader      = "x-fulcrum-decision"
	reservationIDHeader = "x-fulcrum-reservation-id"
)

// allowed lets a request through, with what the upstream needs to settle, and
// without the agent's key and whatever claims to come from us.
func allowed(r *governancev1.AuthorizeResponse, headers map[string][]string) *authv3.CheckResponse {
	set := map[string]string{decisionIDHeader: r.GetDecisionId(), decisionHeader: decision.Name(r.GetDecision())}
	if r.GetHold() != nil {
		set[reservationIDHeader] = r.GetHold().GetReservationId()
	}
	ok := &authv3.OkHttpResponse{Headers: options(set)}
	for name := range headers {
		// Envoy removes after it sets, so what is set, and thereby overwritten,
		// must not be removed.
		if _, ours := set[name]; !ours && (door.Ours(name) || name == "authorization" || name == "x-api-key") {
			ok.HeadersToRemove = append(ok.HeadersToRemove, name)
		}
	}
	slices.Sort(ok.HeadersToRemove)
	return &authv3.CheckResponse{
		Status: &statuspb.Status{Code: int32(codes.OK)}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok}, DynamicMetadata: noted(r),
	}
}

// denied answers in the upstream's place with the decision, in the words of
// REST. why, if not "", is a reason that the decision itself does not have.
func denied(r *governancev1.AuthorizeResponse, why string) *authv3.CheckResponse {
	shown := proto.CloneOf(r)
	if why != "" {
		shown.Message, shown.Hold = why, nil
	}
	body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(shown)
	if err != nil {
		return refused(err)
	}
	status := http.StatusForbidden
	set := map[string]string{"content-type": "application/json", "cache-control": "no-store", decisionIDHeader: r.GetDecisionId()}
	if r.GetRetryAfter() != nil { // a rate: the same request may be let through later
		status = http.StatusTooManyRequests
		set["retry-after"] = strconv.Itoa(int(math.Ceil(r.GetRetryAfter().AsDuration().Seconds())))
	}
	out := answer(codes.PermissionDenied, status, set, body)
	out.DynamicMetadata = noted(r)
	return out
}

// refused answers in the upstream's place why there is no decision, with the
// status and the body of our own HTTP side.
func refused(err error) *authv3.CheckResponse {
	p := rpc.ProblemOf(err)
	if fault.HasReason(err, errBodyTooLarge.Reason) {
		p.Status, p.Title = http.StatusRequestEntityTooLarge, http.StatusText(http.StatusRequestEntityTooLarge)
	}
	set := map[string]string{"content-type": "application/problem+json", "cache-control": "no-store"}
	switch {
	case p.Status == http.StatusUnauthorized:
		set["www-authenticate"] = `Bearer realm="fulcrum"`
	case p.RetryAfter > 0:
		set["retry-after"] = strconv.Itoa(int(math.Ceil(p.RetryAfter)))
	case p.Status == http.StatusServiceUnavailable:
		set["retry-after"] = "1"
	}
	body, broken := json.Marshal(p)
	if broken != nil {
		body = []byte("{}")
	}
	code := rpc.ToStatus(err).Code()
	if _, known := typev3.StatusCode_name[int32(p.Status)]; !known {
		p.Status = http.StatusServiceUnavailable // the caller went away
	}
	return answer(code, p.Status, set, body)
}

func answer(code codes.Code, status int, headers map[string]string, body []byte) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &statuspb.Status{Code: int32(code)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode(status)}, Headers: options(headers), Body: string(body),
		}},
	}
}

// noted is what the proxy's access log may show.
func noted(r *governancev1.AuthorizeResponse) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		"decision_id":    structpb.NewStringValue(r.GetDecisionId()),
		"decision":       structpb.NewStringValue(decision.Name(r.GetDecision())),
		"reservation_id": structpb.NewStringValue(r.GetHold().GetReservationId()),
	}}
}

func options(headers map[string]string) []*corev3.HeaderValueOption {
	out := make([]*corev3.HeaderValueOption, 0, len(headers))
	for k, v := range headers {
		out = append(out, &corev3.HeaderValueOption{
			Header: &corev3.HeaderValue{Key: k, Value: v}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	slices.SortFunc(out, func(a, b *corev3.HeaderValueOption) int {
		if a.GetHeader().GetKey() < b.GetHeader().GetKey() {
			return -1
		}
		return 1
	})
	return out
}

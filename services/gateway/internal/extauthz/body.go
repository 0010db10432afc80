package extauthz

import (
	"mime"
	"strconv"
	"strings"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// maxBody is the largest body that is decided about.
const maxBody = 256 << 10

// errBodyTooLarge is the answer to a body that cannot be judged as a whole.
var errBodyTooLarge = fault.New(fault.Exhausted, "the body is larger than may be judged").WithReason("MESSAGE_TOO_LARGE").
	WithHint("At most 256 KiB are judged, and no more than the proxy's max_request_bytes.")

// arguments is the request's body: a JSON object as it is, anything else under
// the name "body". A part of a body is never judged in the place of the whole.
func arguments(http *authv3.AttributeContext_HttpRequest, headers map[string][]string) (*structpb.Struct, error) {
	body := http.GetRawBody()
	if len(body) == 0 {
		body = []byte(http.GetBody())
	}
	if len(body) == 0 {
		return nil, nil // there is none, or the proxy does not show it: rules about it then fail closed
	}
	if partial(len(body), headers) {
		return nil, errBodyTooLarge
	}
	if isJSON(strings.Join(headers["content-type"], ",")) {
		v := new(structpb.Value)
		// Strict: a duplicate key is one of two readings, and refused.
		if err := (protojson.UnmarshalOptions{RecursionLimit: 100}).Unmarshal(body, v); err != nil {
			return nil, fault.Field("body", "is not JSON, and says it is").WithReason("REQUEST_MALFORMED").WithCause(err)
		}
		if s := v.GetStructValue(); s != nil {
			return s, nil
		}
		return &structpb.Struct{Fields: map[string]*structpb.Value{"body": v}}, nil
	}
	fields := map[string]*structpb.Value{"body_bytes": structpb.NewNumberValue(float64(len(body)))}
	if utf8.Valid(body) {
		fields["body"] = structpb.NewStringValue(string(body))
	}
	return &structpb.Struct{Fields: fields}, nil
}

func partial(shown int, headers map[string][]string) bool {
	if shown > maxBody || strings.Join(headers["x-envoy-auth-partial-body"], ",") == "true" {
		return true
	}
	said, err := strconv.Atoi(strings.Join(headers["content-length"], ","))
	return err == nil && said != shown
}

func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

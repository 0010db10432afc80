package door

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// trailerFrame marks the frame of a gRPC-Web answer that holds its trailers.
const trailerFrame = 0x80

// webAt calls by gRPC-Web, as pages in a browser do.
func webAt(base string) caller {
	return func(ctx context.Context, key string, m protoreflect.MethodDescriptor, req proto.Message) (Answer, error) {
		message, err := proto.Marshal(req)
		if err != nil {
			return Answer{}, err
		}
		frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
		hr, err := http.NewRequestWithContext(ctx, http.MethodPost, base+Path(m), bytes.NewReader(append(frame, message...)))
		if err != nil {
			return Answer{}, err
		}
		hr.Header.Set("Content-Type", "application/grpc-web+proto")
		hr.Header.Set("X-Grpc-Web", "1")
		authorize(hr, key)
		resp, err := client.Do(hr)
		if err != nil {
			return Answer{}, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return Answer{}, err
		}
		if resp.StatusCode != http.StatusOK {
			return Answer{}, fmt.Errorf("HTTP %s: %.200q", resp.Status, body)
		}
		return webAnswer(m, resp.Header, body)
	}
}

// webAnswer reads the frames; an answer of trailers only has them as headers.
func webAnswer(m protoreflect.MethodDescriptor, trailers http.Header, body []byte) (Answer, error) {
	var message []byte
	for len(body) > 0 {
		if len(body) < 5 {
			return Answer{}, errors.New("a frame is cut short")
		}
		kind, size := body[0], int(binary.BigEndian.Uint32(body[1:5]))
		if body = body[5:]; len(body) < size {
			return Answer{}, errors.New("a frame is cut short")
		}
		if kind&trailerFrame != 0 {
			trailers = readTrailers(body[:size])
		} else {
			message = body[:size]
		}
		body = body[size:]
	}
	n, err := strconv.Atoi(trailers.Get("Grpc-Status"))
	if err != nil {
		return Answer{}, fmt.Errorf("grpc-status: %w", err)
	}
	if n != 0 {
		return webFailed(n, trailers)
	}
	out, err := New(m.Output())
	if err != nil {
		return Answer{}, err
	}
	return Answer{Status: http.StatusOK, Body: out}, proto.Unmarshal(message, out)
}

func webFailed(code int, trailers http.Header) (Answer, error) {
	text, err := url.PathUnescape(trailers.Get("Grpc-Message"))
	if err != nil {
		return Answer{}, fmt.Errorf("grpc-message: %w", err)
	}
	s := &spb.Status{Code: int32(code), Message: text}
	if details := strings.TrimRight(trailers.Get("Grpc-Status-Details-Bin"), "="); details != "" {
		raw, err := base64.RawStdEncoding.DecodeString(details)
		if err == nil {
			err = proto.Unmarshal(raw, s)
		}
		if err != nil {
			return Answer{}, fmt.Errorf("grpc-status-details-bin: %w", err)
		}
	}
	a := failed(s)
	a.Status = http.StatusOK
	return a, nil
}

func readTrailers(block []byte) http.Header {
	h := http.Header{}
	for line := range strings.SplitSeq(string(block), "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			h.Add(textproto.CanonicalMIMEHeaderKey(name), strings.TrimSpace(value))
		}
	}
	return h
}

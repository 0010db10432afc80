package app_test

import (
	"fmt"
	"hash/crc32"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// ready waits until a gateway serves.
func ready(t *testing.T, g *gateway) {
	t.Helper()
	client := healthpb.NewHealthClient(g.conn)
	stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetStatus() == healthpb.HealthCheckResponse_SERVING {
			return
		}
	}
}

func governanceOf(g *gateway) governancev1.GovernanceServiceClient {
	return governancev1.NewGovernanceServiceClient(g.conn)
}

func newTenant(w *world) uuid.UUID { return dbtest.Tenant(w.t, w.db) }

// plain is an error with its status again: the test's connection restores faults.
func plain(err error) error {
	if err == nil {
		return nil
	}
	return rpc.ToStatus(err).Err()
}

func checksum(s string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(s))) }

// adminExec runs a statement from another database of the server, for when the
// test's own takes no connections.
func adminExec(t *testing.T, w *world, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), os.Getenv("TEST_POSTGRES_URL"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func newDynamic(d protoreflect.MessageDescriptor) proto.Message { return dynamicpb.NewMessage(d) }

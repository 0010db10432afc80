package db

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// plainArrays makes a connection write slices of plain values as arrays
// directly. The driver goes element by element, with an allocation for each,
// which is most of what a statement with large arrays costs here.
func plainArrays(_ context.Context, conn *pgx.Conn) error {
	m := conn.TypeMap()
	if t, ok := m.TypeForName("uuid"); ok {
		m.RegisterType(&pgtype.Type{Name: t.Name, OID: t.OID, Codec: plainUUID{t.Codec}})
	}
	for _, name := range []string{"_bool", "_bytea", "_int2", "_int4", "_int8", "_text", "_timestamptz", "_uuid"} {
		if t, ok := m.TypeForName(name); ok {
			element := t.Codec.(*pgtype.ArrayCodec).ElementType.OID
			m.RegisterType(&pgtype.Type{Name: t.Name, OID: t.OID, Codec: plainArray{t.Codec, element}})
		}
	}
	return nil
}

// plainUUID is the driver's codec, but for a uuid.UUID: the driver makes text of
// it, and reads that.
type plainUUID struct{ pgtype.Codec }

func (c plainUUID) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return plainUUIDPlan{}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

type plainUUIDPlan struct{}

func (plainUUIDPlan) Encode(value any, buf []byte) ([]byte, error) {
	id := value.(uuid.UUID)
	return append(buf, id[:]...), nil
}

// plainArray is the driver's codec of an array, but for slices of the plain Go
// type of its elements.
type plainArray struct {
	pgtype.Codec
	element uint32 // OID
}

func (c plainArray) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if format == pgtype.BinaryFormatCode {
		switch value.(type) {
		case []bool:
			return planOf(c, pgtype.BoolOID, func(bool) int { return 1 }, func(buf []byte, v bool) []byte {
				if v {
					return append(buf, 1)
				}
				return append(buf, 0)
			})
		case []int16:
			return planOf(c, pgtype.Int2OID, func(int16) int { return 2 }, func(buf []byte, v int16) []byte { return binary.BigEndian.AppendUint16(buf, uint16(v)) })
		case []int32:
			return planOf(c, pgtype.Int4OID, func(int32) int { return 4 }, func(buf []byte, v int32) []byte { return binary.BigEndian.AppendUint32(buf, uint32(v)) })
		case []int64:
			return planOf(c, pgtype.Int8OID, func(int64) int { return 8 }, func(buf []byte, v int64) []byte { return binary.BigEndian.AppendUint64(buf, uint64(v)) })
		case []string:
			return planOf(c, pgtype.TextOID, func(v string) int { return len(v) }, func(buf []byte, v string) []byte { return append(buf, v...) })
		case []uuid.UUID:
			return planOf(c, pgtype.UUIDOID, func(uuid.UUID) int { return 16 }, func(buf []byte, v uuid.UUID) []byte { return append(buf, v[:]...) })
		case []time.Time:
			return planOf(c, pgtype.TimestamptzOID, func(time.Time) int { return 8 }, func(buf []byte, v time.Time) []byte {
				return binary.BigEndian.AppendUint64(buf, uint64(v.Unix()*1e6+int64(v.Nanosecond())/1000-epoch))
			})
		}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

// epoch is PostgreSQL's, 2000-01-01, in microseconds of Unix time.
const epoch = 946_684_800 * 1_000_000

// planOf is the plan for slices of T, or nil if the array is of another type.
func planOf[T any](c plainArray, element uint32, size func(T) int, put func([]byte, T) []byte) pgtype.EncodePlan {
	if c.element != element {
		return nil
	}
	return plainPlan[T]{element, size, put}
}

type plainPlan[T any] struct {
	element uint32
	size    func(T) int
	put     func([]byte, T) []byte
}

// Encode writes what PostgreSQL's array_recv reads.
func (p plainPlan[T]) Encode(value any, buf []byte) ([]byte, error) {
	elements := value.([]T)
	if elements == nil {
		return nil, nil // NULL
	}
	n := 20 + 4*len(elements)
	for _, v := range elements {
		n += p.size(v)
	}
	buf = slices.Grow(buf, n)
	dimensions := uint32(min(len(elements), 1))
	buf = binary.BigEndian.AppendUint32(buf, dimensions)
	buf = binary.BigEndian.AppendUint32(buf, 0) // no element is NULL
	buf = binary.BigEndian.AppendUint32(buf, p.element)
	if dimensions == 0 {
		return buf, nil
	}
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(elements)))
	buf = binary.BigEndian.AppendUint32(buf, 1) // the first one's index
	for _, v := range elements {
		buf = binary.BigEndian.AppendUint32(buf, uint32(p.size(v)))
		buf = p.put(buf, v)
	}
	return buf, nil
}

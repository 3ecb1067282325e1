package ledger

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// encode gives a row as the service's JSON, typed by annotations: a number of
// 64 bits, a time and bytes are strings in JSON.
func encode(e entity) ([]byte, error) {
	out := aztables.EDMEntity{
		Entity:     aztables.Entity{PartitionKey: e.pk, RowKey: e.rk},
		Properties: make(map[string]any, len(e.cells)),
	}
	for name, cell := range e.cells {
		switch v := cell.(type) {
		case int64:
			out.Properties[name] = aztables.EDMInt64(v)
		case time.Time:
			out.Properties[name] = aztables.EDMDateTime(v)
		case []byte:
			out.Properties[name] = aztables.EDMBinary(v)
		default:
			out.Properties[name] = v
		}
	}
	body, err := json.Marshal(out)
	if err != nil {
		return nil, fault.New(fault.Bug, fmt.Sprintf("encode row %s/%s", e.pk, e.rk), err)
	}
	return body, nil
}

// decode reads a row of the service's JSON. etag is the one in the answer's
// header, which counts where the row itself has none.
func decode(raw []byte, etag string) (entity, error) {
	var in aztables.EDMEntity
	if err := json.Unmarshal(raw, &in); err != nil {
		return entity{}, fault.New(fault.Transient, "decode a row", err)
	}
	if in.ETag == "" {
		in.ETag = etag
	}
	if in.ETag == "" {
		// Without it a later write would take the row for a new one.
		return entity{}, fault.Newf(fault.Transient, "decode row %s/%s: the service gave no ETag", in.PartitionKey, in.RowKey)
	}
	e := entity{pk: in.PartitionKey, rk: in.RowKey, etag: in.ETag, cells: make(map[string]any, len(in.Properties))}
	for name, cell := range in.Properties {
		switch v := cell.(type) {
		case aztables.EDMInt64:
			e.cells[name] = int64(v)
		case aztables.EDMDateTime:
			e.cells[name] = time.Time(v)
		case aztables.EDMBinary:
			e.cells[name] = []byte(v)
		case nil:
		default:
			e.cells[name] = v
		}
	}
	return e, nil
}

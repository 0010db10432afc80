// Command event-processor keeps every event and what follows from it.
package main

import (
	"github.com/fulcrum-io/fulcrum/pkg/service"
	"github.com/fulcrum-io/fulcrum/services/event-processor/app"
)

func main() { service.Main("event-processor", app.Run) }

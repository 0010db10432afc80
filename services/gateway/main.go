// Command gateway is Fulcrum's front door.
package main

import (
	"github.com/fulcrum-io/fulcrum/pkg/service"
	"github.com/fulcrum-io/fulcrum/services/gateway/app"
)

func main() { service.Main("gateway", app.Run) }

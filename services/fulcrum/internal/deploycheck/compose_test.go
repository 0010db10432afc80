package deploycheck

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// compose is docker-compose.yml as far as it is looked at.
type compose struct {
	Services map[string]struct {
		Image string
		Build *struct {
			Dockerfile string
			Args       map[string]string
		}
		Command     any
		Environment map[string]string
		Ports       []string
		ReadOnly    bool                                  `json:"read_only"`
		CapDrop     []string                              `json:"cap_drop"`
		SecurityOpt []string                              `json:"security_opt"`
		DependsOn   map[string]struct{ Condition string } `json:"depends_on"`
		Profiles    []string
		Restart     string
		Volumes     []string
		HealthCheck struct {
			Disable bool
			Test    []string
		}
	}
	Volumes map[string]any
}

func composed(t *testing.T) compose {
	t.Helper()
	var c compose
	decode(t, "docker-compose.yml", &c)
	return c
}

func TestEveryServiceIsComposed(t *testing.T) {
	t.Parallel()
	c := composed(t)
	modules := serviceModules(t)
	if got := services(); !slices.Equal(got, slices.Sorted(slices.Values(modules))) {
		t.Fatalf("this test runs %v, go.work has %v", got, modules)
	}
	for _, name := range modules {
		s, ok := c.Services[name]
		if !ok {
			t.Errorf("%s is not in docker-compose.yml", name)
			continue
		}
		if s.Build == nil || s.Build.Dockerfile != "deploy/docker/Dockerfile" || s.Build.Args["SERVICE"] != name {
			t.Errorf("%s is built otherwise: %+v", name, s.Build)
		}
		if !slices.Equal(s.HealthCheck.Test, []string{"CMD", "/service", "healthcheck"}) {
			t.Errorf("%s is probed by %v", name, s.HealthCheck.Test)
		}
		prefix := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if s.Environment[prefix+"_OPS_ADDR"] != ":9100" {
			t.Errorf("%s has no %s_OPS_ADDR of :9100, where Prometheus looks", name, prefix)
		}
		if s.DependsOn["migrate"].Condition != "service_completed_successfully" {
			t.Errorf("%s does not wait for the schema", name)
		}
	}
}

// A variable that nobody reads is a promise that nobody keeps; one that lacks
// is a container that does not start.
func TestComposeSetsWhatServicesRead(t *testing.T) {
	t.Parallel()
	c := composed(t)
	for _, name := range services() {
		env := c.Services[name].Environment
		for key := range env {
			if !reads(name, key) {
				t.Errorf("%s is given %s, which it does not read", name, key)
			}
		}
		for _, s := range settings()[name] {
			if s.note == "(required)" && env[s.key] == "" {
				t.Errorf("%s needs %s", name, s.key)
			}
			// What a default on loopback stands for must be said in a container.
			if strings.HasPrefix(s.note, "127.0.0.1:") && env[s.key] == "" {
				t.Errorf("%s would use %s=%s, its own loopback", name, s.key, s.note)
			}
		}
		if env["FULCRUM_INTERNAL_TOKEN"] == "" {
			t.Errorf("%s has no internal token", name)
		}
	}
}

var variable = regexp.MustCompile(`\$\{([A-Z_]+)(:?[-?][^}]*)?\}`)

// Secrets come from .env, made by fulcrum keygen; nothing here has a default.
func TestNoSecretHasADefault(t *testing.T) {
	t.Parallel()
	made, ok := output(t, "fulcrum", "keygen")
	if !ok {
		t.Fatal(made)
	}
	keys := map[string]bool{}
	for line := range strings.Lines(made) {
		key, _, _ := strings.Cut(line, "=")
		keys[key] = true
	}
	isSecret := func(key string) bool {
		return keys[key] || slices.ContainsFunc([]string{"PASSWORD", "SECRET", "TOKEN", "PEPPER", "_KEY"}, func(part string) bool {
			return strings.Contains(key, part) && !strings.HasSuffix(key, "_VERSION")
		})
	}
	for _, m := range variable.FindAllStringSubmatch(text(t, "docker-compose.yml"), -1) {
		key, rest := m[1], m[2]
		switch {
		case strings.HasPrefix(rest, ":?"):
			if !keys[key] {
				t.Errorf("%s is required, and fulcrum keygen does not make it", key)
			}
		case isSecret(key) && rest != ":-":
			t.Errorf("secret %s is taken as %s: require it (:?) or let it be absent (:-)", key, m[0])
		}
	}
	for name, s := range composed(t).Services {
		for key, value := range s.Environment {
			if isSecret(key) && value != "" && !strings.Contains(value, "${") {
				t.Errorf("%s: %s is written down", name, key)
			}
		}
	}
}

var version = regexp.MustCompile(`^[a-z0-9./-]+:v?[a-z]*\d+(\.\d+)+[a-z0-9.-]*(@sha256:[0-9a-f]{64})?$`)

func TestEveryImageIsPinned(t *testing.T) {
	t.Parallel()
	for name, s := range composed(t).Services {
		if s.Build == nil && !version.MatchString(s.Image) {
			t.Errorf("%s: image %q does not name a version", name, s.Image)
		}
	}
	for _, path := range []string{"deploy/docker/Dockerfile", "deploy/nats/Dockerfile"} {
		for _, m := range regexp.MustCompile(`(?m)^ARG [A-Z]+_IMAGE=(.*)$`).FindAllStringSubmatch(text(t, path), -1) {
			// distroless has no versions: its digest is the version, for whoever deploys.
			if !version.MatchString(m[1]) && m[1] != "gcr.io/distroless/static-debian12:nonroot" {
				t.Errorf("%s: image %q does not name a version", path, m[1])
			}
		}
		if from := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(text(t, path), -1); len(from) == 0 {
			t.Errorf("%s has no FROM", path)
		} else {
			for _, m := range from {
				if strings.Contains(m[1], ":") {
					t.Errorf("%s: FROM %s cannot be replaced by a digest: use ARG ..._IMAGE", path, m[1])
				}
			}
		}
	}
	if composed(t).Services["nats"].Image != regexp.MustCompile(`NATS_IMAGE=(.*)`).FindStringSubmatch(text(t, "deploy/nats/Dockerfile"))[1] {
		t.Error("compose and deploy/nats/Dockerfile run different versions of NATS")
	}
}

func TestContainersAreConfined(t *testing.T) {
	t.Parallel()
	for name, s := range composed(t).Services {
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may gain privileges", name)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s publishes %s beyond this machine", name, port)
			}
		}
		if s.Build != nil && (!s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"})) {
			t.Errorf("%s can write its image or keeps capabilities", name)
		}
	}
	if !strings.Contains(text(t, "deploy/docker/Dockerfile"), "\nUSER 65532:65532\n") {
		t.Error("the image runs as root")
	}
}

// docker compose up --wait takes a container that ends for a failure, unless
// another waits for its success.
func TestOneShotsAreWaitedFor(t *testing.T) {
	t.Parallel()
	c := composed(t)
	for name, s := range c.Services {
		if s.Restart != "no" {
			continue
		}
		waited := false
		for _, other := range c.Services {
			waited = waited || other.DependsOn[name].Condition == "service_completed_successfully"
		}
		if !waited || !s.HealthCheck.Disable {
			t.Errorf("%s runs once: somebody must wait for its success, and nobody probe it", name)
		}
	}
}

// All pools together leave room for people, backups and one more instance.
func TestThePoolsFitTheServer(t *testing.T) {
	t.Parallel()
	most := 0
	for _, name := range services() {
		i := slices.IndexFunc(settings()[name], func(s setting) bool { return strings.HasSuffix(s.key, "_DB_CONNS") })
		if i < 0 {
			most += 30 // the default of db.Options
			continue
		}
		n, err := strconv.Atoi(settings()[name][i].note)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		most += n
	}
	limit := regexp.MustCompile(`max_connections=(\d+)`).FindStringSubmatch(text(t, "docker-compose.yml"))
	if limit == nil {
		t.Fatal("docker-compose.yml does not set max_connections")
	}
	if n, _ := strconv.Atoi(limit[1]); most*5 > n*4 {
		t.Errorf("the pools want %d connections, more than 80 %% of %d", most, n)
	}
}

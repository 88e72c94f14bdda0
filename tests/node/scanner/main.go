// Stands for Trivy: asks the registry for the image that it is told, and prints what Trivy would.
//
// What it finds is said by the image's own labels: `vulnerable`, as CVE:SEVERITY:PACKAGE:VERSION:FIXED
// with commas between, and `scan`, which makes it go wrong in one way.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

type object = map[string]any

func main() {
	image := os.Getenv("BATTEN_IMAGE")
	fmt.Fprintln(os.Stderr, "INFO scanning", image, "for", os.Getenv("BATTEN_PLATFORM"))
	host, rest, _ := strings.Cut(image, "/")
	repository, digest, _ := strings.Cut(rest, "@")
	base := "http://" + host + "/v2/" + repository

	var manifest struct{ Config struct{ Digest string } }
	ask(host, base+"/manifests/"+digest, &manifest)
	var configuration struct{ Config struct{ Labels map[string]string } }
	ask(host, base+"/blobs/"+manifest.Config.Digest, &configuration)
	labels := configuration.Config.Labels

	digests := []string{manifest.Config.Digest, image}
	switch labels["scan"] {
	case "fails":
		fail("no space left on device")
	case "is slow":
		time.Sleep(5 * time.Second)
	case "hangs":
		time.Sleep(time.Hour)
	case "prints nonsense":
		fmt.Println("all is well")
		return
	case "prints another's":
		digests = []string{"sha256:" + strings.Repeat("0", 64)}
	case "prints much":
		fmt.Println(`{"SchemaVersion": 2, "Results": [`)
		for range 11 {
			fmt.Println(strings.Repeat(" ", 1<<20))
		}
		fmt.Println("]}")
		return
	}
	found := []object{}
	for _, each := range strings.FieldsFunc(labels["vulnerable"], func(r rune) bool { return r == ',' }) {
		said := append(strings.Split(each, ":"), "", "", "", "")
		found = append(found, object{
			"VulnerabilityID": said[0], "Severity": said[1], "PkgName": said[2],
			"InstalledVersion": said[3], "FixedVersion": said[4],
		})
	}
	report, _ := json.MarshalIndent(object{
		"SchemaVersion": 2,
		"CreatedAt":     time.Now().UTC().Format(time.RFC3339),
		"ArtifactType":  "container_image",
		"Metadata":      object{"ImageID": digests[0], "RepoDigests": digests[1:]},
		"Results":       []object{{"Class": "os-pkgs", "Vulnerabilities": found}},
	}, "", "  ")
	fmt.Println(string(report))
	fmt.Fprintln(os.Stderr, "INFO done")
}

// ask reads JSON with what DOCKER_CONFIG says of the registry.
func ask(host, url string, into any) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		fail(err)
	}
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	if folder := os.Getenv("DOCKER_CONFIG"); folder != "" {
		var config struct {
			Auths map[string]struct{ Auth string }
		}
		data, err := os.ReadFile(filepath.Join(folder, "config.json"))
		if err == nil {
			err = json.Unmarshal(data, &config)
		}
		if err != nil {
			fail(err)
		}
		request.Header.Set("Authorization", "Basic "+config.Auths[host].Auth)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		fail(err)
	}
	defer answer.Body.Close()
	data, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusOK {
		fail(url + ": " + answer.Status)
	}
	if err := json.Unmarshal(data, into); err != nil {
		fail(err)
	}
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, "FATAL", why)
	os.Exit(1)
}

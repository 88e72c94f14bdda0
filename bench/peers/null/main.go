// A webhook that allows everything and changes nothing: what net/http, TLS and reading the review
// cost. Arguments: HOST:PORT and the folder of tls.crt and tls.key.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
)

type review struct {
	Request struct {
		UID string `json:"uid"`
	} `json:"request"`
}

func answer(response http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	var asked review
	if err == nil {
		err = json.Unmarshal(body, &asked)
	}
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	told, _ := json.Marshal(map[string]any{
		"apiVersion": "admission.k8s.io/v1",
		"kind":       "AdmissionReview",
		"response":   map[string]any{"uid": asked.Request.UID, "allowed": true},
	})
	response.Header().Set("Content-Type", "application/json")
	_, _ = response.Write(told)
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("arguments: HOST:PORT FOLDER")
	}
	folder := os.Args[2]
	http.HandleFunc("/", answer)
	log.Fatal(http.ListenAndServeTLS(
		os.Args[1], filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key"), nil))
}

"""A small FHIR server with made-up patients for `fhir_counts.py`: python fhir_server.py [PORT].

GET /north/Patient?gender=female&_summary=count        a count
GET /north/Patient?gender=female&_count=20             pages of a bundle
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

SITES = {"north": (31, 24), "south": (18, 7), "west": (40, 45)}
"""Women and men at each site."""


def patients(site: str) -> list[dict[str, str]]:
    women, men = SITES[site]
    genders = ["female"] * women + ["male"] * men
    return [
        {"resourceType": "Patient", "id": f"{site}-{number}", "gender": gender}
        for number, gender in enumerate(genders)
    ]


def bundle(base: str, site: str, query: dict[str, str]) -> dict[str, object]:
    wanted = query.get("gender")
    found = [each for each in patients(site) if wanted in (None, each["gender"])]
    answer: dict[str, object] = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(found),
    }
    if query.get("_summary") == "count":
        return answer
    size, start = int(query.get("_count", "20")), int(query.get("_offset", "0"))
    answer["entry"] = [{"resource": each} for each in found[start : start + size]]
    if start + size < len(found):
        following = urlencode({**query, "_offset": start + size})
        url = f"{base}/{site}/Patient?{following}"
        answer["link"] = [{"relation": "next", "url": url}]
    return answer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        steps = parts.path.strip("/").split("/")
        if len(steps) != 2 or steps[0] not in SITES or steps[1] != "Patient":
            self.send_error(404)
            return
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        body = json.dumps(bundle(f"http://{self.headers['host']}", steps[0], query)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/fhir+json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing to the terminal."""


def main(port: int) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"http://127.0.0.1:{server.server_port}/north/Patient", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8480)

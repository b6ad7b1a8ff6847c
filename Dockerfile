# An image that contains only the static program. It is built from the output of `make dist`, not from
# the sources, so it contains the program that was checked:
#
#     make dist-build
#     docker build -t rasaudit -f Dockerfile target/dist
#     docker run --rm --network none --read-only --cap-drop all -v "$PWD/captures:/data:ro" \
#         rasaudit audit farm.pcap -i inventory.toml
#
# docs/install.md describes how to write reports.
FROM scratch
COPY rasaudit /usr/bin/rasaudit
COPY THIRD-PARTY-NOTICES /usr/share/doc/rasaudit/THIRD-PARTY-NOTICES
WORKDIR /data
# A user without a name, because there is no /etc/passwd. It owns no file.
USER 65532:65532
ENTRYPOINT ["/usr/bin/rasaudit"]
CMD ["--help"]

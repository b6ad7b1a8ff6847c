/* The baseline of the benchmarks: libpcap reads each packet, and the loop only counts it. */
#include <pcap/pcap.h>
#include <stdio.h>

int main(int count, char **arguments)
{
    char error[PCAP_ERRBUF_SIZE];
    struct pcap_pkthdr *header;
    const u_char *data;
    unsigned long long packets = 0;
    int result;
    pcap_t *capture = count == 2 ? pcap_open_offline(arguments[1], error) : NULL;
    if (!capture)
        return 2;
    while ((result = pcap_next_ex(capture, &header, &data)) == 1)
        packets++;
    printf("%llu\n", packets);
    return result == PCAP_ERROR_BREAK ? 0 : 1;
}

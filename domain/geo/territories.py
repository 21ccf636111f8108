"""What every country pays with and reads: ISO 3166-1 code to currencies and languages, best first.

Source: Unicode CLDR as shipped by Babel 2.18 (legal tender of November 2026, official and de facto
official languages). tests/domain/test_geo_territories.py compares it with the installed Babel and
lists where we differ: euro in Bulgaria since 2026, the local note before the pegged partner's, USD
where the tender cannot be booked. XK (Kosovo) has no ISO code but is what GeoIP files say.
"""

from __future__ import annotations

_TABLE = """
    AD:EUR:ca AE:AED:ar AF:AFN:fa,ps AG:XCD:en AI:XCD:en AL:ALL:sq AM:AMD:hy AO:AOA:pt AQ:USD:en
    AR:ARS:es AS:USD:sm,en AT:EUR:de AU:AUD:en AW:AWG:nl,pap AX:EUR:sv AZ:AZN:az,az-Cyrl
    BA:BAM:bs-Cyrl,bs,hr BB:BBD:en BD:BDT:bn BE:EUR:nl,fr,de BF:XOF:fr BG:EUR:bg BH:BHD:ar
    BI:BIF:rn,fr,en BJ:XOF:fr BL:EUR:fr BM:BMD:en BN:BND:ms,ms-Arab BO:BOB:es,qu,ay BQ:USD:nl
    BR:BRL:pt BS:BSD:en BT:BTN,INR:dz BV:NOK:no BW:BWP:en,tn BY:BYN:be,ru BZ:BZD:en CA:CAD:en,fr
    CC:AUD:en CD:CDF:fr CF:XAF:sg,fr CG:XAF:fr CH:CHF:de,gsw,fr CI:XOF:fr CK:NZD:en CL:CLP:es
    CM:XAF:fr,en CN:CNY:zh CO:COP:es CR:CRC:es CU:CUP:es CV:CVE:pt CW:USD:pap,nl CX:AUD:en
    CY:EUR:el,tr CZ:CZK:cs DE:EUR:de DJ:DJF:fr,ar DK:DKK:da DM:XCD:en DO:DOP:es DZ:DZD:ar,fr
    EC:USD:es,qu EE:EUR:et EG:EGP:ar EH:MAD:ar ER:ERN:ti,en,ar ES:EUR:es ET:ETB:am FI:EUR:fi,sv
    FJ:FJD:en,hif,fj FK:FKP:en FM:USD:en FO:DKK:fo FR:EUR:fr GA:XAF:fr GB:GBP:en GD:XCD:en
    GE:GEL:ka GF:EUR:fr GG:GBP:en GH:GHS:en GI:GIP:en GL:DKK:kl GM:GMD:en GN:GNF:fr GP:EUR:fr
    GQ:XAF:es,fr,pt GR:EUR:el GS:GBP:en GT:GTQ:es GU:USD:en,ch GW:XOF:pt GY:GYD:en
    HK:HKD:zh-Hant,en HM:AUD:en HN:HNL:es HR:EUR:hr HT:HTG,USD:ht,fr HU:HUF:hu ID:IDR:id
    IE:EUR:en,ga IL:ILS:he,ar IM:GBP:en,gv IN:INR:hi,en IO:USD:en IQ:IQD:ar IR:IRR:fa IS:ISK:is
    IT:EUR:it JE:GBP:en JM:JMD:en JO:JOD:ar JP:JPY:ja KE:KES:sw,en KG:KGS:ky,ru KH:KHR:km
    KI:AUD:en,gil KM:KMF:ar,zdj,wni KN:XCD:en KP:KPW:ko KR:KRW:ko KW:KWD:ar KY:KYD:en KZ:KZT:ru,kk
    LA:LAK:lo LB:LBP:ar LC:XCD:en LI:CHF:de,gsw LK:LKR:si,ta LR:LRD:en LS:LSL,ZAR:st,en LT:EUR:lt
    LU:EUR:fr,lb,de LV:EUR:lv LY:LYD:ar MA:MAD:ar,fr,tzm MC:EUR:fr MD:MDL:ro ME:EUR:sr-Latn
    MF:EUR:fr MG:MGA:mg,fr,en MH:USD:en,mh MK:MKD:mk ML:XOF:fr MM:MMK:my MN:MNT:mn
    MO:MOP:zh-Hant,yue,pt MP:USD:en MQ:EUR:fr MR:MRU:ar MS:XCD:en MT:EUR:mt,en MU:MUR:fr,en
    MV:MVR:dv MW:MWK:ny,en MX:MXN:es MY:MYR:ms MZ:MZN:pt NA:NAD,ZAR:en NC:XPF:fr NE:XOF:fr
    NF:AUD:en NG:NGN:en,yo NI:NIO:es NL:EUR:nl NO:NOK:no,nb,nn NP:NPR:ne NR:AUD:en,na
    NU:NZD:niu,en NZ:NZD:en,mi OM:OMR:ar PA:USD,PAB:es PE:PEN:es,qu PF:XPF:fr,ty PG:PGK:tpi,en,ho
    PH:PHP:en,fil PK:PKR:ur,en PL:PLN:pl PM:EUR:fr PN:NZD:en PR:USD:es,en PS:ILS,JOD:ar PT:EUR:pt
    PW:USD:pau,en PY:PYG:gn,es QA:QAR:ar RE:EUR:fr RO:RON:ro RS:RSD:sr-Latn,sr RU:RUB:ru
    RW:RWF:rw,en,fr SA:SAR:ar SB:SBD:en SC:SCR:fr,en SD:SDG:en,ar SE:SEK:sv SG:SGD:en,zh,ms
    SH:SHP:en SI:EUR:sl SJ:NOK:nb SK:EUR:sk SL:SLE:en SM:EUR:it SN:XOF:wo,fr SO:SOS:so,ar
    SR:SRD:nl SS:SSP:en ST:STN:pt SV:USD:es SX:USD:en,nl SY:SYP:ar SZ:SZL:en,ss TC:USD:en
    TD:XAF:ar,fr TF:EUR:fr TG:XOF:fr TH:THB:th TJ:TJS:tg TK:NZD:tkl,en TL:USD:tet,pt TM:TMT:tk
    TN:TND:ar,fr TO:TOP:to,en TR:TRY:tr TT:TTD:en TV:AUD:tvl,en TW:TWD:zh-Hant,nan-Hant,hak-Hant
    TZ:TZS:sw,en UA:UAH:uk,ru UG:UGX:sw,en UM:USD:en US:USD:en UY:UYU:es UZ:UZS:uz,uz-Cyrl
    VA:EUR:it VC:XCD:en VE:VES:es VG:USD:en VI:USD:en VN:VND:vi VU:VUV:bi,en,fr WF:XPF:fr
    WS:WST:sm,en XK:EUR:sq,sr-Latn,sr YE:YER:ar YT:EUR:fr ZA:ZAR:en ZM:ZMW:en ZW:USD:sn,en,nd
"""

_ROWS = [entry.split(":") for entry in _TABLE.split()]

CURRENCIES = {country: tuple(currencies.split(",")) for country, currencies, _ in _ROWS}
LANGUAGES = {country: tuple(languages.split(",")) for country, _, languages in _ROWS}
COUNTRIES = frozenset(CURRENCIES)

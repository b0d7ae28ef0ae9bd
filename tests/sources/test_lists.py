"""What comes out of photos with a list of them, as shops and data sets have it."""

import subprocess
import sys

import pytest
from test_layouts import build, check

# One list of four photos, in every way to write it; `{...}` of a case is explained in test_layouts.
FOUR = "{1:Küche,2:Küche,3:Bad,4:Bad}"
PLAIN = {"place": "photos/", "name": "catalog.csv", "encoding": "", "comma": ","}
PLAIN |= {"file": "file", "label": "label", "before": "", "after": ".jpg"}
WAYS = {
    "by Excel in Germany": {"comma": ";", "encoding": "cp1252"},
    "by Excel as Unicode": {"comma": "\t", "encoding": "utf-16", "name": "catalog.tsv"},
    "by Excel as CSV UTF-8": {"comma": ";", "encoding": "utf-8-sig"},
    "by Excel": {"name": "catalog.xlsx"},
    "apart by bars": {"comma": "|"},
    "called Catalog.csv": {"name": "Catalog.csv", "label": "Label"},
    "called CATALOG.CSV": {"name": "CATALOG.CSV", "label": "LABEL"},
    "called images.csv": {"name": "images.csv", "file": "image", "label": "category"},
    "called labels.csv": {"name": "labels.csv", "file": "id", "label": "breed", "after": ""},
    "called as its owner likes": {"name": "Unsere Produkte.csv", "file": "Bild"},
    "with a German header": {"file": "Dateiname", "label": "Kategorie"},
    "with blanks in its header": {"file": " file", "label": " Label "},
    "with a header that tells nothing": {"file": "x", "label": "class"},
    "with folders": {"before": "photos/"},
    "with folders of Windows": {"before": "photos\\"},
    "with a dot for here": {"before": "./photos/"},
    "with where the photos once lay": {"before": "/home/me/old/"},
    "with where they lay on Windows": {"before": "C:\\Users\\me\\Pictures\\"},
    "with another folder": {"before": "images/"},
    "with addresses": {"before": "https://shop.example/media/"},
    "without suffixes": {"after": ""},
    "with suffixes in capitals": {"after": ".JPG"},
    "beside the photos": {"place": ""},
    "among the photos": {"name": "photos/catalog.csv"},
    "in a wrapper": {"place": "archive/images/", "name": "archive/list.csv"},
    "away from the photos": {"place": "data/images/", "name": "lists/list.csv"},
}
WAY = """
    {place}{four}.jpg = $1
    list: {name}; {encoding} // row: {file}{comma}{label} // row: {before}{four}{after}{comma}$1
    said: csv|CSV|tsv|xlsx"""

LISTS = {
    "H&M": """
        images/010/0{108775015,108775044}.jpg = Vest top; -; 0108775
        images/011/0{110065001,110065002}.jpg = Bra; -; 0110065
        list: articles.csv
        row: article_id,product_code,prod_name,product_type_no,product_type_name,colour_group_name
        row: 0{108775015,108775044},0108775,Strap top,253,Vest top,Black
        row: 0{110065001,110065002},0110065,OP T-shirt,306,Bra,White
        said: articles.csv; product_type_name; product_code
        holds: images/010/0108775015.jpg: prod_name=Strap top""",
    "H&M, saved by Excel": """
        images/010/0{108775015,108775044}.jpg = Vest top; -; 108775
        images/011/0{110065001,110065002}.jpg = Bra; -; 110065
        list: articles.csv
        row: article_id;product_code;prod_name;product_type_no;product_type_name
        row: {108775015,108775044};108775;Strap top;253;Vest top
        row: {110065001,110065002};110065;OP T-shirt;306;Bra""",
    "Fashion Product Images": """
        images/{1163:Tshirts,1164:Tshirts,1165:Watches,1526:Watches}.jpg = $1
        images/1530.jpg ? Tshirts
        images/9999.jpg - styles.csv
        list: styles.csv
        row: id,gender,masterCategory,articleType,baseColour,year,productDisplayName
        row: {1163,1164},Men,Apparel,Tshirts,Blue,2011,Nike Tee
        row: {1165,1526},Women,Accessories,Watches,Black,2012,Fossil "Stella"
        row: 1530,Men,Apparel,Tshirts,Red,2011,Puma, with a comma, and more
        row: 7777,Men,Apparel,Tshirts,Red,2011,Gone
        said: articleType; 7777; 1530|line 6|row 6|row 5 // perhaps:
        holds: images/1163.jpg: baseColour=Blue; year=2011""",
    "photos and rows without the other": """
        photos/{1:bag,2:bag,3:hat,4:hat}.jpg = $1
        photos/9.jpg - catalog.csv
        list: catalog.csv // row: file,label // row: {1:bag,2:bag,3:hat,4:hat,5:hat}.jpg,$1
        missing: 5.jpg // perhaps:""",
    "a guess that is handed in": """
        train/{a1:bag,a2:bag,a3:hat,a4:hat}.jpg = $1; train // test/{a5,a6}.jpg ? -; test
        list: train.csv // row: id,label // row: {a1:bag,a2:bag,a3:hat,a4:hat},$1
        list: sample_submission.csv // row: id,label // row: {a5,a6},bag // perhaps:""",
    "a list that names two of many": """
        bag/x{1..4}.jpg = bag // hat/y{1..4}.jpg = hat // ~$catalog.xlsx
        list: reviews.csv // row: file,stars // row: x{1,2}.jpg,5 // holds: bag/x1.jpg: stars=5""",
    "names composed and decomposed": """
        photos/Ku\u0308che{1:bag,2:bag,3:hat,4:hat}.jpg = $1
        list: catalog.csv // row: file,label // row: K\u00fcche{1:bag,2:bag,3:hat,4:hat}.jpg,$1""",
    "labels that are none": """
        photos/{1:bag,2:bag,3:hat,4:hat,5:-,6:-,7:-,8:-}.jpg = $1
        list: catalog.csv // row: file,label
        row: {1:bag,2:bag,3:hat,4:hat,5:NaN,6:N/A,7:,8: }.jpg,$1 // perhaps:""",
    "products that are none": """
        photos/{1,2}.jpg = bag; -; 007
        photos/{3..9}.jpg = hat
        photos/10.jpg = hat; -; A-1
        list: catalog.csv // row: file,product_id,label // row: {1,2}.jpg,007,bag
        row: {3:N/A,4:N/A,5:-,6:-,7:0,8:0,9:,10:A-1}.jpg,$1,hat
        doubt: product; N/A""",
    "products as Excel leaves them": """
        photos/{1,2}.jpg = bag
        photos/{3..6}.jpg = hat
        photos/{7,8}.jpg = bag; -; 4006381333931
        list: catalog.csv // row: file;sku;label
        row: {1,2}.jpg;4.00638E+12;bag // row: {3,4}.jpg;4,00638E+12;hat
        row: {5,6}.jpg;NaN;hat // row: {7,8}.jpg;4006381333931;bag
        doubt: 4.00638E+12""",
    "numbers in Excel": """
        photos/{1,2}.jpg = 0; -; 4006381333931
        photos/{3,4}.jpg = 1; -; 17
        photos/5.jpg = 1
        list: catalog.xlsx // row: file,label,product_id // row: {1,2},0,4006381333931
        row: {3,4},1,17 // row: 5,1, // perhaps:""",
    "splits": """
        photos/{1:train,2:train,3:validation,4:test,5:validation}.jpg = bag; $1
        photos/{6:test,7:train,8:-}.jpg = hat; $1
        list: catalog.csv // row: file,label,split
        row: {1:train,2:Training,3:VAL,4:test,5:dev}.jpg,bag,$1
        row: {6:TESTING,7: Train,8:reserve}.jpg,hat,$1
        said: reserve // perhaps:""",
    "a list for each split": """
        photos/{1:bag,2:bag,3:hat,4:hat}.jpg = $1; train
        photos/{5:bag,6:hat}.jpg = $1; test
        list: train.csv // row: file,label // row: {1:bag,2:bag,3:hat,4:hat}.jpg,$1
        list: test.csv // row: file,label // row: {5:bag,6:hat}.jpg,$1
        said: train.csv; test.csv""",
    "a list for each split, of the test no labels": """
        train/{1:bag,2:bag,3:hat,4:hat}.jpg = $1; train
        test/{5,6}.jpg = -; test
        list: train.csv // row: id,label // row: {1:bag,2:bag,3:hat,4:hat},$1
        list: test.csv // row: id // row: {5,6} // perhaps:""",
    "labels of the photos of one split": """
        train/{a1:husky,b2:husky,c3:beagle,d4:beagle}.jpg = $1; train
        test/{e5,f6}.jpg ? -; test
        list: labels.csv // row: id,breed // row: {a1:husky,b2:husky,c3:beagle,d4:beagle},$1
        said: labels.csv // perhaps:""",
    "the same photos twice, and labels": """
        {images_original,images_compressed}/{a1:bag,b2:bag,c3:hat,d4:hat}.jpg ? $2
        list: images.csv // row: image,sender_id,label,kids
        row: {a1:bag,b2:bag,c3:hat,d4:hat},124,$1,False
        said: images_original|images_compressed // perhaps:""",
    "no header": """
        photos/{1:bag,2:bag,3:hat,4:hat}.jpg = $1
        list: catalog.csv // row: {1:bag,2:bag,3:hat,4:hat}.jpg,$1
        or error: header // perhaps:""",
    "Excel's word for its separator": """
        photos/{1:bag,2:bag,3:hat,4:hat}.jpg = $1
        list: catalog.csv // row: sep=; // row: file;label
        row: {1:bag,2:bag,3:hat,4:hat}.jpg;$1 // or error: catalog.csv""",
    "quotes, and columns that are empty": """
        photos/{1:bag,2:bag,3:hat,4:hat}.jpg = $1, red
        list: catalog.csv // row: file,label,,
        row: {1:bag,2:bag,3:hat,4:hat}.jpg,"$1, red",, // row: ,,,""",
    "labels in folders": """
        {bag,hat}/p{1,2}$1.jpg = $1
        list: catalog.csv // row: file,price,note // row: p{1,2}bag.jpg,12.50,NA
        row: p1hat.jpg,9.00,1e5 // row: p2hat.jpg,9.00,007 // said: catalog.csv
        holds: bag/p1bag.jpg: price=12.50; note=NA // holds: hat/p1hat.jpg: price=9.00; note=1e5
        holds: hat/p2hat.jpg: price=9.00; note=007""",
    "columns that all may be the label": """
        photos/{1,2,3,4}.jpg = *
        list: catalog.csv // row: file,alpha,beta // row: {1:x,2:y}.jpg,a,$1
        row: {3:x,4:y}.jpg,b,$1 // doubt: alpha; beta; columns=""",
    "columns as they are told": """
        photos/{1,2}.jpg = bag; train; 001
        photos/{3,4}.jpg = hat; test; 2
        list: liste.csv // row: A;B;C;D;E // row: {1,2}.jpg;bag;001;Training;rot
        row: {3,4}.jpg;hat;2;test;blau // holds: photos/1.jpg: colour=rot
        call: {"columns": {"file":"A","label":"B","product_id":"C","split":"D","colour":"E"}}""",
    "a column that is told and not there": """
        photos/{1,2}.jpg ~
        list: liste.csv // row: Bild;Kategorie // row: {1,2}.jpg;bag
        call: {"columns": {"label": "Kategory"}} // error: Kategory; Bild; Kategorie""",
    "another label than there would be": """
        photos/{1:rot,2:blau,3:rot,4:blau}.jpg = $1
        list: catalog.csv // row: file,label,Farbe // row: {1:rot,2:blau,3:rot,4:blau}.jpg,bag,$1
        call: {"label": "Farbe"} // said: Farbe""",
    "a catalogue of other photos": """
        {bag,hat}/p#2.jpg ~
        list: catalog.csv // row: file,label // row: x{1,2,3}.jpg,bag // error: catalog.csv""",
    "an empty catalogue": """
        {bag,hat}/p#2.jpg = $1
        list: catalog.csv // said: catalog.csv // or error: catalog.csv // perhaps:""",
    "a list of something else": """
        {bag,hat}/p#2.jpg = $1
        list: prices.csv // row: article,price // row: {blue bag,red hat},12 // said: prices.csv""",
    "a table of something else": """
        photos/{bag,hat}/p#2.jpg = $1 // said: prices.xlsx
        list: prices.xlsx // row: article,price // row: {blue bag,red hat},12""",
    "a photo twice": """
        photos/{1:bag,2:bag,3:hat,4:hat|bag|-}.jpg = $1
        list: catalog.csv // row: file,label // row: {1:bag,2:bag,3:hat,4:hat}.jpg,$1
        row: 4.jpg,bag // said: 4.jpg // or error: 4.jpg // perhaps:""",
    "a name that two photos have": """
        {a,b}/{1,2}.jpg ? *
        c/3.jpg = red
        list: catalog.csv // row: file,label // row: {1,2,3}.jpg,red
        said: 1.jpg // or error: 1.jpg // perhaps:""",
    "a photo outside of the folder": """
        photos/{1:bag,2:bag,3:hat,4:hat}.jpg = $1
        ../x.jpg ~
        list: catalog.csv // row: file,label // row: {1:bag,2:bag,3:hat,4:hat}.jpg,$1
        row: ../x.jpg,hat // said: x.jpg // or error: x.jpg // perhaps:""",
    "a catalogue as this project writes it": """
        shoe/{1,2}.png = trainer; train; P1
        shoe/{3,4}.png = boot; test; P2
        list: catalog.csv // row: image_id,product_id,label,split,colour,size,code
        row: shoe/{1,2}.png,P1,trainer,train,NA,1e5,007 // row: shoe/{3,4}.png,P2,boot,test,red,,42
        holds: shoe/1.png: colour=NA; size=1e5; code=007""",
}
for way, parts in WAYS.items():
    LISTS[f"a list {way}"] = WAY.format(**PLAIN | parts, four=FOUR)


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_a_list_is_read_right_and_what_is_doubtful_is_said(tmp_path_factory, text, capsys):
    check(tmp_path_factory.mktemp("disk"), text, capsys)


def test_excel_without_openpyxl_is_told_how_to_have_it(tmp_path):
    build(
        tmp_path, "photos/p#2.jpg = bag // list: catalog.xlsx // row: file,label // row: p{1,2},bag"
    )
    code = "import sys; sys.modules['openpyxl'] = None; "
    code += "from lookalike.sources import load_catalog; load_catalog('folder', sys.argv[1])"
    ended = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert "pip install openpyxl" in ended.stdout + ended.stderr
